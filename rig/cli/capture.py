"""``rig capture``: record a board's current with a meter of a bench file."""

import argparse
import contextlib
import json
import re
import time
from pathlib import Path
from typing import Any

from rig.bench.bench import meter_of
from rig.bench.config import MeterConfig, load_bench
from rig.cli.commands import print_table, table_of
from rig.energy import Waveform
from rig.errors import ConfigError
from rig.meter import Capture, Trigger, waking_range_a

#: What is left to wait for when the last sample should be there.
SLACK_S = 15.0
POLL_S = 0.2

_LEVEL = re.compile(r"(above|below):([0-9.]+(?:[eE][+-]?[0-9]+)?)")


def capture_current(options: argparse.Namespace) -> int:
    """Record into ``options.out``; Ctrl-C ends a capture without ``--seconds`` and keeps it."""
    config = _chosen(options.bench, options.meter)
    trigger, wanted_a = _trigger(options.trigger), _ampere(options.range)
    with (
        meter_of(config, options.bench) as meter,
        meter.capture(
            range_a=waking_range_a(meter) if options.range is None else wanted_a,
            interval_s=options.interval or meter.capabilities.min_interval_s,
            duration_s=options.seconds,
            path=options.out,
            pretrigger_s=options.before,
            trigger=trigger,
        ) as capture,
    ):
        waveform = _until_asked(capture) if options.seconds is None else _wait(capture, options)
        _tell(str(meter.identity), waveform, as_json=options.json)
    return 0


def _wait(capture: Capture, options: argparse.Namespace) -> Waveform:
    if options.trigger == "immediate":
        return capture.result(timeout_s=options.seconds + SLACK_S)
    return capture.result(timeout_s=options.timeout + options.seconds + SLACK_S)


def _until_asked(capture: Capture) -> Waveform:
    print("recording until Ctrl-C", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            time.sleep(POLL_S)
    return capture.stop(timeout_s=SLACK_S)


def _chosen(bench: Path, name: str | None) -> MeterConfig:
    meters = [meter for meter in load_bench(bench).meters if name in (None, meter.name)]
    if not meters:
        raise ConfigError(f"{bench}: no meter{f' called {name!r}' if name else ''}, so nothing to capture with")
    return meters[0]


def _ampere(text: str | None) -> float | None:
    if text in (None, "auto"):
        return None
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"--range: {text!r} is neither a range in ampere nor auto") from None


def _trigger(text: str) -> Trigger:
    match _LEVEL.fullmatch(text):
        case None:
            pass
        case found:
            level_a = float(found[2])
            return Trigger.level_rising(level_a) if found[1] == "above" else Trigger.level_falling(level_a)
    named = {
        "immediate": Trigger.immediate,
        "rising": Trigger.external_rising,
        "falling": Trigger.external_falling,
    }
    if text not in named:
        raise ConfigError(f"--trigger: {text!r} is none of {', '.join(named)}, above:AMPERE, below:AMPERE")
    return named[text]()


def _tell(instrument: str, waveform: Waveform, *, as_json: bool) -> None:
    statistics = waveform.statistics(0, len(waveform))
    facts: dict[str, Any] = {
        "file": str(waveform.path),
        "instrument": instrument,
        "samples": len(waveform),
        "interval_s": waveform.interval_s,
        "duration_s": waveform.duration_s,
        "charge_c": statistics.charge_c,
        "mean_a": statistics.mean_a,
        "min_a": statistics.min_a,
        "max_a": statistics.max_a,
    }
    if as_json:
        print(json.dumps(facts))
        return
    table = table_of("", "")
    for name, value in facts.items():
        table.add_row(name, f"{value:.6g}" if isinstance(value, float) else str(value))
    print_table(table)
