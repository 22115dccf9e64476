"""Provisioning: what is refused, what is shown, and the partition it becomes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rig.board import Provisioning, nvs_image
from rig.errors import ConfigError
from rig.formats.nvs import read_nvs

GOOD = {"identity": "board-1", "psk": bytes(range(1, 17)), "wifi_ssid": "lab", "wifi_passphrase": "open sesame"}
TEXT = st.characters(exclude_categories=["Cs"], exclude_characters="\0")


def bytes_within(longest, shortest=0):
    return lambda text: shortest <= len(text.encode()) <= longest


@given(
    st.text(TEXT, min_size=1, max_size=64).filter(bytes_within(128, 1)),
    st.binary(min_size=1, max_size=64).map(lambda key: key.replace(b"\0", b"\1")),
    st.text(TEXT, max_size=32).filter(bytes_within(32)),
    st.text(TEXT, min_size=8, max_size=63).filter(bytes_within(63, 8)) | st.just(""),
    st.integers(3, 8),
)
def test_what_goes_in_is_what_the_device_reads(identity, psk, ssid, passphrase, pages):
    size = pages * 0x1000
    image = nvs_image(Provisioning(identity, psk, ssid, passphrase), size)
    assert len(image) == size
    assert {key: found.value for key, found in read_nvs(image).items()} == {
        ("coaps", "identity"): identity,
        ("coaps", "psk"): psk,
        ("wifi", "ssid"): ssid,
        ("wifi", "passphrase"): passphrase,
    }


def test_equal_input_gives_equal_bytes():
    assert nvs_image(Provisioning(**GOOD), 0x6000) == nvs_image(Provisioning(**GOOD), 0x6000)


def test_nothing_is_left_in_the_working_directory(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    nvs_image(Provisioning(**GOOD), 0x3000)
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr() == ("", "")


def test_repr_shows_no_secret():
    shown = repr(Provisioning(**GOOD))
    assert "board-1" in shown
    assert "open sesame" not in shown
    assert "\\x02" not in shown


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"psk": b""}, "0 bytes"),
        ({"psk": bytes(range(1, 66))}, "65 bytes"),
        ({"psk": bytes(range(16))}, "byte 0 is NUL"),
        ({"identity": ""}, "identity"),
        ({"identity": "ü" * 65}, "130 bytes"),
        ({"identity": "a\0b"}, "NUL"),
        ({"wifi_ssid": "x" * 33}, "wifi_ssid"),
        ({"wifi_passphrase": "7 chars"}, "wifi_passphrase"),
    ],
)
def test_what_the_device_could_not_use_is_refused(change, named):
    with pytest.raises(ConfigError, match=named) as caught:
        Provisioning(**GOOD | change)
    assert "open sesame" not in str(caught.value)


@pytest.mark.parametrize("size", [0, 0x2000, 0x3001])
def test_a_partition_of_no_use_is_refused(size):
    with pytest.raises(ConfigError, match="nvs partition"):
        nvs_image(Provisioning(**GOOD), size)
