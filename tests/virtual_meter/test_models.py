"""The registry of virtual instruments: each is built from its own document, and what is not there is told."""

from contextlib import closing
from pathlib import Path

import pytest

from rig.bench.virtual import virtual_bench
from rig.errors import BenchError, ConfigError
from rig.meter import load_accuracy
from rig.virtual.meter.bench import VirtualMeter
from rig.virtual.meter.models import MODELS, model_named


@pytest.mark.parametrize("name", MODELS)
def test_every_model_is_built_from_a_document_of_its_own(name: str, tmp_path: Path) -> None:
    document = MODELS[name].accuracy
    assert load_accuracy(document).document.startswith("coaps-rig virtual meter specification")
    meter = VirtualMeter(
        model=name, accuracy=document, supply=tmp_path / "s", seed=1, serial="1", supply_voltage_v=3.3, oddities={}
    )
    meter.start()
    with closing(meter):
        assert set(meter.facts) in ({"visa"}, {"port"})
        # One that feeds the board is off until somebody switches it on.
        assert (meter.instrument.board_voltage_v() > 3.2) is not MODELS[name].feeds


def test_a_model_or_an_oddity_that_is_not_there_is_told() -> None:
    with pytest.raises(ConfigError, match="no virtual instrument for the driver 'scope'; there are: keysight-34465a, "):
        model_named("scope", {})
    with pytest.raises(ConfigError, match="virtual keysight-34465a has no oddity 'smoke'; it has: late_reply"):
        model_named("keysight-34465a", {"smoke": {}})


def test_a_virtual_bench_with_a_meter_that_is_not_there_says_so(tmp_path: Path) -> None:
    with (
        pytest.raises(BenchError, match="no virtual instrument for the driver 'scope'"),
        virtual_bench(tmp_path, meter="scope"),
    ):
        pass
