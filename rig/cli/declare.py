"""``rig declare``: a first ``dut.yaml``, drafted from what a device answers, for its maker to check and complete."""

import json
import tempfile
from pathlib import Path
from typing import Any

import yaml

from rig.bench.bench import Bench, FlashMode, Listeners
from rig.bench.config import load_bench
from rig.bench.virtual import virtual_bench
from rig.coap.probe import Prober, ProbeSession, request
from rig.coap.probe.survey import (
    METHOD_NOT_ALLOWED,
    NOT_FOUND,
    NOT_TRIED,
    PSK_SUITES,
    answering_udp_ports,
    open_tcp_ports,
    survey_methods,
    survey_offers,
    survey_resources,
    survey_suites,
)
from rig.dtls import coap
from rig.dtls.coap import OptionNumber
from rig.errors import ConfigError, DeviceError
from rig.evidence.declaration import Declaration
from rig.formats.link_format import Link

_HEAD = """\
# Drafted from what the device answered. What cannot be seen from outside is left out or carries the model's default:
# check product and maker, the lengths of identities and keys, sessions and handshakes at once, session_lifetime_s,
# each resource's purpose, the message type of its notifications, the values that PUT takes, deep_sleep, update,
# fuses, sbom.
"""
_PURPOSES = {"PUT": "command", "POST": "command", "DELETE": "command"}


def declare(bench_file: Path | None, board: str | None, out: Path | None, *, as_json: bool) -> int:
    """Ask a device of a bench what it offers, and print the draft or write it to *out*, which must not exist yet."""
    if out is not None and out.exists():
        raise ConfigError(f"{out}: exists; a declaration is its maker's word and is not written over")
    with tempfile.TemporaryDirectory(prefix="rig-declare-") as directory:
        if bench_file is not None:
            draft = _draft(bench_file, board, Path(directory), "never")
        else:
            with virtual_bench(Path(directory) / "virtual") as file:
                draft = _draft(file, board, Path(directory), "auto")
    text = json.dumps(draft, indent=1) + "\n" if as_json else _HEAD + yaml.safe_dump(draft, sort_keys=False)
    if out is None:
        print(text, end="")
    else:
        out.write_text(text, encoding="utf-8")
    return 0


def _draft(bench_file: Path, name: str | None, logs: Path, flash: FlashMode) -> dict[str, Any]:
    config = load_bench(bench_file)
    board = next((one for one in config.boards if name in (None, one.name)), None)
    if board is None:
        raise ConfigError(f"{bench_file}: no board is called {name!r}")
    silent = Listeners(*[lambda *_: None] * 4)
    with Bench(config, bench_file, board, log_path=logs / f"console-{board.name}.log", listeners=silent) as bench:
        bench.flash(flash)
        with Prober(bench.endpoint, bench.board_config.identity.encode(), bench.psk) as prober:
            draft = survey(prober, *bench.address())
    draft = {"product": bench.board_config.name, "maker": "unknown", **draft}
    Declaration.model_validate(draft)
    return draft


def survey(prober: Prober, host: str, port: int) -> dict[str, Any]:
    """Return what a declaration would say of the device; raises DeviceError where it answers nothing."""
    tried = survey_suites(prober)
    suites = [number for number, one in tried.items() if one.suite == number]
    if not suites:
        whys = "; ".join(sorted({one.why for one in tried.values()}))
        raise DeviceError(f"no PSK suite completes a handshake with {host}:{port}; check identity and key ({whys})")
    offers = survey_offers(prober, suites[0])
    lifetime = {"session_lifetime_s": float(offers.ticket_lifetime_s)} if offers.ticket_lifetime_s else {}
    open_ports = [*(("tcp", one) for one in open_tcp_ports(host)), *(("udp", one) for one in answering_udp_ports(host))]
    others = [one for one in open_ports if one != ("udp", port)]
    with prober.session() as session:
        resources = [found for link in survey_resources(session) if (found := _resource(session, link))]
    return {
        "dtls": {
            "suites": [PSK_SUITES[number] for number in suites],
            "identity_hint": offers.identity_hint,
            "resumption": list(offers.resumed_by),
            "connection_id": offers.connection_id,
            **lifetime,
        },
        "ports": [
            {"transport": "udp", "port": port, "service": "coaps"},
            *({"transport": kind, "port": one, "service": "unknown"} for kind, one in others),
        ],
        "resources": resources or [{"path": "/", "methods": ["GET"], "purpose": "information"}],
    }


def _resource(session: ProbeSession, link: Link) -> dict[str, Any] | None:
    answers = survey_methods(session, link.target)
    methods = [name for name, code in answers.items() if code not in (METHOD_NOT_ALLOWED, NOT_FOUND, NOT_TRIED)]
    if not methods:
        return None
    purpose = next((_PURPOSES[name] for name in methods if name in _PURPOSES), "information")
    found: dict[str, Any] = {"path": link.target, "methods": methods, "purpose": purpose}
    return found | (_representation(session, link) if answers["GET"] == "2.05" else {})


def _representation(session: ProbeSession, link: Link) -> dict[str, Any]:
    """Register as an observer and leave again: what is observable shows it in the answer."""
    observe = int(OptionNumber.OBSERVE)
    answer = session.ask(request(coap.GET, link.target, options=((observe, b""),)))
    found: dict[str, Any] = {}
    if answer.code_text != "2.05":
        return found
    if answer.observe is not None:
        session.ask(request(coap.GET, link.target, options=((observe, b"\1"),), token=answer.token))
        found |= {"observable": True, "notifications": "CON"}
    if formats := answer.values(OptionNumber.CONTENT_FORMAT):
        found["content_format"] = int.from_bytes(formats[0], "big")
    if answer.values(OptionNumber.ETAG):
        found["etag"] = True
    blocks = answer.values(OptionNumber.BLOCK2)
    return found | {"blockwise": True} if blocks and int.from_bytes(blocks[0], "big") & 8 else found
