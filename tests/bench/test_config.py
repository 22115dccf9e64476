"""``bench.yaml``: what is wrong is told with file, line and key."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rig.bench.config import NetworkBoardConfig, load_bench, read_psk
from rig.errors import ConfigError

GOOD = """\
boards:
  - name: light1
    mac: 7C:DF:A1:00:00:01
    port: /dev/ttyUSB0
    identity: light-1
    psk: {env: LIGHT1_PSK}
    meter: dmm
    router: ap
meters:
  - name: dmm
    driver: keysight-34465a
    resource: TCPIP::192.0.2.20::5025::SOCKET
routers:
  - name: ap
    driver: relay
    control: 127.0.0.1:4000
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "bench.yaml"
    path.write_text(text)
    return path


def wrong(tmp_path: Path, old: str, new: str) -> str:
    assert old in GOOD
    with pytest.raises(ConfigError) as raised:
        load_bench(write(tmp_path, GOOD.replace(old, new)))
    return str(raised.value)


def test_a_good_file(tmp_path: Path) -> None:
    bench = load_bench(write(tmp_path, GOOD))
    assert bench.boards[0].mac == "7c:df:a1:00:00:01"
    assert bench.boards[0].coaps_port == 5684


def test_unknown_key_names_file_line_and_candidate(tmp_path: Path) -> None:
    message = wrong(tmp_path, "    port:", "    prot:")
    assert f"{tmp_path}/bench.yaml:4: boards.0.prot: unknown key; did you mean 'port'?" in message


def test_unknown_key_without_a_near_name_lists_what_is_known(tmp_path: Path) -> None:
    assert "known here: boards, meters, routers" in wrong(tmp_path, "routers:", "zzzzz:")


def test_missing_key(tmp_path: Path) -> None:
    assert "bench.yaml:2: boards.0.identity: is missing" in wrong(tmp_path, "    identity: light-1\n", "")


def test_wrong_mac_names_its_line(tmp_path: Path) -> None:
    assert "bench.yaml:3: boards.0.mac: '7C:DF' is not a MAC address" in wrong(tmp_path, "7C:DF:A1:00:00:01", "7C:DF")


def test_a_part_that_is_not_there(tmp_path: Path) -> None:
    assert "board light1: meter 'smu' is not on this bench (there: dmm)" in wrong(tmp_path, "meter: dmm", "meter: smu")


def test_a_key_that_stands_twice(tmp_path: Path) -> None:
    message = wrong(tmp_path, "    identity: light-1\n", "    identity: light-1\n    identity: light-2\n")
    assert "bench.yaml:6: identity: stands twice (first in line 5)" in message


def test_an_identity_that_the_client_cannot_hold_is_refused(tmp_path):
    message = wrong(tmp_path, "    identity: light-1\n", f"    identity: {'ü' * 17}\n")
    assert "bench.yaml:5: boards.0.identity: has 34 bytes" in message


def test_no_yaml_names_the_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"bench\.yaml:1: is not valid YAML"):
        load_bench(write(tmp_path, "boards: ]\n"))


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read: No such file"):
        load_bench(tmp_path / "none.yaml")


def test_secret_by_environment_and_by_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, GOOD)
    board = load_bench(path).boards[0]
    monkeypatch.setenv("LIGHT1_PSK", "0102030405060708090a0b0c0d0e0f10")
    assert read_psk(board, path) == bytes(range(1, 17))
    (tmp_path / "key").write_text("f" * 32 + "\n")
    by_file = load_bench(write(tmp_path, GOOD.replace("{env: LIGHT1_PSK}", "{file: key}"))).boards[0]
    assert read_psk(by_file, path) == b"\xff" * 16


@pytest.mark.parametrize("key", ["", "zz", "00" * 16, "01" * 15, "01" * 17])
def test_a_key_that_is_no_key_is_refused_and_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    path = write(tmp_path, GOOD)
    monkeypatch.setenv("LIGHT1_PSK", key)
    with pytest.raises(ConfigError, match="32 hexadecimal digits") as raised:
        read_psk(load_bench(path).boards[0], path)
    assert not key or key not in str(raised.value)


def test_a_secret_that_is_not_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, GOOD)
    monkeypatch.delenv("LIGHT1_PSK", raising=False)
    with pytest.raises(ConfigError, match="LIGHT1_PSK is not set"):
        read_psk(load_bench(path).boards[0], path)


@given(text=st.text(max_size=300))
def test_any_text_is_a_bench_or_a_clear_error(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"any\.yaml:\d+: "):
        load_bench(path)


POWER = """\
    power:
      off: uhubctl -l 1-1 -p 2 -a off
      on: [uhubctl, -l, 1-1, -p, "2", -a, on]
"""


def with_power(text: str) -> str:
    return GOOD.replace("    router: ap\n", f"    router: ap\n{text}")


def test_power_commands_in_one_line_or_as_a_list(tmp_path: Path) -> None:
    power = load_bench(write(tmp_path, with_power(POWER))).boards[0].power
    assert power is not None
    assert power.off == ("uhubctl", "-l", "1-1", "-p", "2", "-a", "off")
    assert power.on == ("uhubctl", "-l", "1-1", "-p", "2", "-a", "on")
    assert power.settle_s == 1.0


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("      off: uhubctl -l 1-1 -p 2 -a off\n", "", ":9: boards.0.power.off: is missing"),
        ("uhubctl -l 1-1 -p 2 -a off", '""', ":10: boards.0.power.off: "),
        ("uhubctl -l 1-1 -p 2 -a off", "uhubctl '-l", ":10: boards.0.power.off: no closing quotation"),
        ("uhubctl -l 1-1 -p 2 -a off", "[uhubctl, 2]", ":10: boards.0.power.off.1: "),
        ("      off:", "      of:", ":10: boards.0.power.of: unknown key; did you mean 'off'?"),
        ("      off:", "      settle_s: -1\n      off:", ":10: boards.0.power.settle_s: "),
    ],
)
def test_wrong_power_names_its_line(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in POWER
    with pytest.raises(ConfigError) as raised:
        load_bench(write(tmp_path, with_power(POWER.replace(old, new))))
    assert f"bench.yaml{said}" in str(raised.value)


@pytest.mark.parametrize("word", ["on", "off", "yes", "no", "On", "NO"])
def test_words_of_yaml_1_1_are_text(tmp_path: Path, word: str) -> None:
    assert load_bench(write(tmp_path, GOOD.replace("light1", word))).boards[0].name == word


NETWORK = GOOD.replace(
    """\
  - name: light1
    mac: 7C:DF:A1:00:00:01
    port: /dev/ttyUSB0
""",
    """\
  - name: light1
    type: network
    host: 192.0.2.7
""",
)


def test_a_network_device_has_an_address_and_no_mac(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, NETWORK)
    device = load_bench(path).boards[0]
    assert isinstance(device, NetworkBoardConfig)
    assert (device.address, device.coaps_port, device.console) == ("192.0.2.7", 5684, None)
    monkeypatch.setenv("LIGHT1_PSK", b"secret-key".hex())
    assert read_psk(device, path) == b"secret-key"
    monkeypatch.setenv("LIGHT1_PSK", "00" * 65)
    with pytest.raises(ConfigError, match="1 to 64 bytes"):
        read_psk(device, path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("    host: 192.0.2.7\n", "", "bench.yaml:2: boards.0.host: is missing"),
        ("    host:", "    hots:", "bench.yaml:4: boards.0.hots: unknown key; did you mean 'host'?"),
        ("type: network", "type: esp32", "bench.yaml:2: boards.0: input tag 'esp32'"),
    ],
)
def test_a_mistake_in_a_network_device_is_told_by_its_key(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in NETWORK
    with pytest.raises(ConfigError) as raised:
        load_bench(write(tmp_path, NETWORK.replace(old, new)))
    assert message in str(raised.value)
