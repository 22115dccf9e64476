"""The files of declarations: each that ships is sound, and one that is not says where."""

from pathlib import Path

import pytest
import yaml

from rig.errors import ConfigError
from rig.formats.checked_yaml import load_checked
from rig.meter.scpi.declaration import Declaration, load_declaration

FOLDER = Path("rig/meter/instruments")


@pytest.mark.parametrize("driver", sorted(path.stem for path in FOLDER.glob("*.yaml")))
def test_every_declaration_that_ships_is_sound(driver: str) -> None:
    declared = load_declaration(driver)
    values = dict.fromkeys(("range_a", "interval_s", "aperture_s", "level_a", "voltage_v", "current_limit_a"), 1.0)
    for group in (declared.commands.range, declared.commands.sampling, declared.commands.output):
        commands = declared.filled(group, declared.triggers[0], count=1, pretrigger=0, slope="POS", **values)
        assert not [command for command in commands if "{" in command or "<" in command]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"ranges_a": [1.0, 0.1]}, "ranges_a: not ascending"),
        ({"safe_range_a": 2.0}, "safe_range_a: is none of ranges_a"),
        ({"triggers": ["immediate", "external"], "commands.trigger": {"immediate": []}}, "nothing for external"),
        ({"seamless": True}, "the capability and commands.seamless go together"),
        ({"commands.range": ["RANG {range}"]}, "has a placeholder 'range'"),
        ({"memory": 5}, "memory: unknown key"),
    ],
)
def test_what_is_wrong_with_a_declaration_is_told(tmp_path: Path, changes: dict[str, object], reason: str) -> None:
    content = yaml.safe_load((FOLDER / "keysight-34465a.yaml").read_text(encoding="utf-8"))
    for key, value in changes.items():
        *path, last = key.split(".")
        part = content
        for name in path:
            part = part[name]
        part[last] = value
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    with pytest.raises(ConfigError, match=reason):
        load_checked(tmp_path / "x.yaml", Declaration)


def test_options_change_what_the_instrument_can_do() -> None:
    options = load_declaration("keysight-34465a").options
    assert options is not None
    assert options.change("DIG").min_interval_s == 20e-6
    assert options.change("MEM").max_pretrigger == 2_000_000
    assert options.change("LAN").model_dump(exclude_none=True) == {}
