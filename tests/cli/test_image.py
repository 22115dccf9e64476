"""``rig image`` on every kind of file, sound and damaged, and beside esptool on the same image."""

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from esp_idf_nvs_partition_gen import nvs_partition_gen as generator
from hypothesis import given
from hypothesis import strategies as st

from rig.board import Provisioning, nvs_image
from rig.cli.image import show
from rig.errors import ConfigError
from rig.formats import explain, image, nvs, partitions

APP = image.build_host_image(b"\x7fELF" + bytes(range(256)) * 20, project="light", version="1.2.3")
BOOTLOADER = image.build_bootloader()
CSV = """\
nvs, data, nvs, 0x9000, 16K
otadata, data, ota, , 8K
factory, app, factory, 0x10000, 128K
creds, data, nvs, , 12K, encrypted
"""
TABLE = partitions.table_from_csv(CSV)
SECRETS = Provisioning("identity-1", b"secret-psk-bytes", "network-name", "passphrase-1")
CREDENTIALS = nvs_image(SECRETS, 0x3000)
OTADATA = (b"\x02\0\0\0" + b"\xff" * 24 + bytes.fromhex("7437f655")).ljust(0x2000, b"\xff")


def merged(**changes: bytes) -> bytes:
    content = bytearray(b"\xff" * 0x40000)
    parts = {0: BOOTLOADER, 0x8000: TABLE, 0xD000: OTADATA, 0x10000: APP, 0x30000: CREDENTIALS}
    for offset, data in (parts | {int(at, 0): data for at, data in changes.items()}).items():
        content[offset : offset + len(data)] = data
    return bytes(content)


def flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


@pytest.fixture
def rig_image(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Explain bytes as ``rig image --json`` does: the exit code and what was printed."""

    def run(content: bytes, name: str = "file.bin") -> tuple[int, dict]:
        (tmp_path / name).write_bytes(content)
        code = show(tmp_path / name, as_json=True)
        return code, json.loads(capsys.readouterr().out)

    return run


def esptool_image_info(path: Path) -> str:
    command = [sys.executable, "-m", "esptool", "image-info", str(path)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("at", [None, 0x500])
@pytest.mark.parametrize("content", [APP, BOOTLOADER], ids=["application", "bootloader"])
def test_esptool_says_the_same(rig_image, tmp_path: Path, content: bytes, at: int | None):
    code, found = rig_image(content if at is None else flip(content, at))
    shown = esptool_image_info(tmp_path / "file.bin")
    assert code == (0 if at is None else 2)
    facts = found["facts"]
    assert int(re.search(r"Entry point: (0x\w+)", shown)[1], 16) == int(facts["entry"], 16)
    assert re.search(r"Flash size: (\w+)", shown)[1] == f"{facts['flash_bytes'] >> 20}MB"
    assert re.search(r"Flash freq: (\w+)", shown)[1] == facts["flash_frequency"]
    assert re.search(r"Flash mode: (\w+)", shown)[1] == facts["flash_mode"]
    assert re.search(r"Chip ID: \d+ \(ESP32-C3\)", shown)
    assert facts["chip"] == "esp32c3"
    assert re.search(r"Minimal chip revision: (v[\d.]+)", shown)[1] == facts["min_chip_revision"]
    assert re.search(r"Maximal chip revision: (v[\d.]+)", shown)[1] == facts["max_chip_revision"]
    rows = re.findall(r"^ +(\d+)  (0x\w+)  (0x\w+)  (0x\w+)  (.+)$", shown, re.MULTILINE)
    assert len(rows) == len(facts["segments"])
    for (number, length, address, offset, memory), row in zip(rows, facts["segments"], strict=True):
        assert (int(number), int(length, 16)) == (row["segment"], row["size_bytes"])
        assert int(address, 16) == int(row["load_address"], 16)
        assert int(offset, 16) == int(row["file_offset"], 16)
        assert row["memory"] in memory.split(", ")
    stored, verdict, calculated = re.search(
        r"Checksum: (0x\w+) \((valid|invalid)(?: - calculated (0x\w+))?", shown
    ).groups()
    assert int(stored, 16) == int(facts["checksum"]["stored"], 16)
    assert facts["checksum"]["valid"] is (verdict == "valid") is (at is None)
    assert int(calculated or stored, 16) == int(facts["checksum"]["calculated"], 16)
    digest, verdict = re.search(r"Validation hash: (\w+) \((\w+)\)", shown).groups()
    assert facts["sha256"]["calculated"] == digest
    assert facts["sha256"]["valid"] is (verdict == "valid")


def test_an_application_tells_its_descriptor_and_the_program_it_carries(rig_image):
    code, found = rig_image(APP + b"after")
    assert (code, found["kind"], found["sound"]) == (0, "application", True)
    facts = found["facts"]
    assert (facts["project"], facts["version"], facts["esp_idf"]) == ("light", "1.2.3", "v5.3.1")
    assert facts["host_program"] == {"size_bytes": 5124, "sha256": facts["elf_sha256"]}
    assert facts["bytes_after_image"] == 5


@pytest.mark.parametrize(
    ("content", "kind", "finding"),
    [
        (b"\x00" + APP[1:], "application", "magic byte is 0x00"),
        (b"\x00" + BOOTLOADER[1:], "bootloader", "magic byte is 0x00"),
        (flip(APP, 0x500), "application", "checksum is 0x"),
        (flip(APP, len(APP) - 1), "application", "SHA-256"),
        (APP[:12] + b"\x09" + APP[13:], "application", "built for chip id 9"),
        (APP[:3000], "application", "cut short"),
        (APP[:20], "image", "cut short"),
        (flip(TABLE, 12), "partition table", "Incorrect MD5 checksum"),
        (flip(TABLE, 0), "partition table", "partition 0 invalid magic number"),
        (TABLE[:40], "partition table", "no terminating entry"),
        (flip(CREDENTIALS, 0x50), "NVS partition", "1 entries cannot be read"),
        (CREDENTIALS + flip(CREDENTIALS, 5), "NVS partition", "page at 0x3000 has a damaged header"),
        (OTADATA[:0x1000] + b"\x07" + OTADATA[0x1001:], "OTA data", "sector 1: the CRC does not fit"),
        (flip(merged(), 0x10500), "merged image or flash dump", "app at 0x10000: checksum is 0x"),
        (flip(merged(), 0x8044), "merged image or flash dump", "Incorrect MD5 checksum"),
        (merged()[:0x9000], "merged image or flash dump", "no application in any app partition"),
    ],
)
def test_a_damaged_file_is_explained_as_far_as_it_goes(rig_image, content, kind, finding):
    code, found = rig_image(content)
    assert (code, found["kind"], found["sound"]) == (2, kind, False)
    assert finding in json.dumps(found["findings"])


def test_a_cut_application_still_tells_who_it_is(rig_image):
    _, found = rig_image(APP[:3000])
    assert found["facts"]["project"] == "light"
    assert found["facts"]["length_bytes"] is None
    assert found["facts"]["segments"] == []


@pytest.mark.parametrize(("name", "content"), [("table.bin", TABLE), ("partitions.csv", CSV.encode())])
def test_a_partition_table_is_listed(rig_image, name, content):
    code, found = rig_image(content, name)
    assert (code, found["kind"]) == (0, "partition table")
    rows = {row["label"]: row for row in found["facts"]["partitions"]}
    assert list(rows) == ["nvs", "otadata", "factory", "creds"]
    assert (rows["factory"]["type"], rows["factory"]["subtype"], rows["factory"]["end"]) == (
        "app",
        "factory",
        "0x30000",
    )
    assert rows["creds"]["flags"] == "encrypted"
    assert found["facts"]["needs_flash_bytes"] == 0x33000


def test_a_wrong_csv_is_named_by_its_line(tmp_path):
    (tmp_path / "partitions.csv").write_text("nvs, data, nvs, 0x9000, 16K\nfactory, app, 0x10000\n")
    with pytest.raises(ConfigError, match=r"partitions.csv: partition table CSV, line 2: 3 fields"):
        show(tmp_path / "partitions.csv", as_json=False)


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("content", [CREDENTIALS, merged()], ids=["partition", "flash dump"])
def test_no_secret_is_shown(tmp_path, capsys, content, as_json):
    (tmp_path / "file.bin").write_bytes(content)
    assert show(tmp_path / "file.bin", as_json=as_json) == 0
    shown = capsys.readouterr().out
    for key in ("identity", "psk", "ssid", "passphrase"):
        assert key in shown
    assert "16 bytes, not shown" in shown
    for secret in ("identity-1", "secret-psk", b"secret-psk-bytes".hex(), "network-name", "passphrase-1"):
        assert secret not in shown


def test_ota_data_tells_which_slot_counts(rig_image):
    code, found = rig_image(OTADATA)
    assert (code, found["kind"], found["facts"]["active_sequence"]) == (0, "OTA data", 2)
    assert [row["sequence"] for row in found["facts"]["entries"]] == [2, "blank"]


def test_a_merged_image_is_a_table_of_what_lies_where(rig_image):
    code, found = rig_image(merged())
    assert (code, found["kind"]) == (0, "merged image or flash dump")
    assert [(part["name"], part["offset"], part["explanation"]["kind"]) for part in found["parts"]] == [
        ("bootloader", 0, "bootloader"),
        ("partition-table", 0x8000, "partition table"),
        ("nvs", 0x9000, "erased"),
        ("otadata", 0xD000, "OTA data"),
        ("factory", 0x10000, "application"),
        ("creds", 0x30000, "NVS partition"),
    ]


def test_a_build_directory_is_checked_as_a_whole(tmp_path, capsys):
    for name, content in (("bootloader.bin", BOOTLOADER), ("table.bin", TABLE), ("app.bin", APP)):
        (tmp_path / name).write_bytes(content)
    offsets = {"0x0": "bootloader.bin", "0x8000": "table.bin", "0x10000": "app.bin"}
    named = dict(zip(("bootloader", "partition-table", "app"), offsets.items(), strict=True))
    entries = {key: {"offset": offset, "file": file} for key, (offset, file) in named.items()}
    arguments = {"flash_files": offsets, **entries, "extra_esptool_args": {"chip": "esp32c3"}}
    (tmp_path / "flasher_args.json").write_text(json.dumps(arguments))
    assert show(tmp_path, as_json=False) == 0
    shown = capsys.readouterr().out
    assert "build directory" in shown
    assert "0x010000 app: application" in shown
    (tmp_path / "app.bin").write_bytes(flip(APP, 0x500))
    assert show(tmp_path, as_json=False) == 2
    shown = " ".join(capsys.readouterr().out.split())
    assert "app at 0x10000: checksum is" in shown
    assert "wrong, the data give 0x" in shown
    assert "light" in shown


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "file.bin: is empty"),
        (b"\x7fELF" + bytes(100), "is an ELF program; name the .bin"),
        (b"UF2\nWQ]\x9e" + bytes(504), "is a UF2 file"),
        (b":020000040000FA\r\n", "is an Intel HEX file"),
        (b"hello", "none of what was looked for: an application or bootloader image"),
    ],
)
def test_an_unknown_file_says_what_was_looked_for(tmp_path, content, what):
    (tmp_path / "file.bin").write_bytes(content)
    with pytest.raises(ConfigError, match=what):
        show(tmp_path / "file.bin", as_json=False)


def test_the_command_line(tmp_path):
    (tmp_path / "app.bin").write_bytes(APP)
    (tmp_path / "bad.bin").write_bytes(flip(APP, 0x500))
    (tmp_path / "other.bin").write_bytes(b"hello")
    command = [sys.executable, "-m", "rig.cli.main", "image"]
    runs = {
        name: subprocess.run([*command, str(tmp_path / name)], capture_output=True, text=True, check=False)
        for name in ("app.bin", "bad.bin", "other.bin", "gone.bin")
    }
    assert {name: run.returncode for name, run in runs.items()} == dict.fromkeys(runs, 2) | {"app.bin": 0}
    assert "nothing wrong" in runs["app.bin"].stdout
    assert "wrong: checksum is 0x" in runs["bad.bin"].stdout
    assert runs["other.bin"].stderr.startswith(f"rig: {tmp_path}/other.bin: is none of what was looked for")
    assert "gone.bin: cannot be read: No such file" in runs["gone.bin"].stderr


STARTS = [b"", b"\xe9", APP[:32], BOOTLOADER[:32], TABLE[:32], OTADATA[:32], CREDENTIALS[:64]]


@given(st.sampled_from(STARTS), st.binary(max_size=300), st.sampled_from([0, 0x1000, 0x2000]))
def test_any_bytes_are_explained_or_a_config_error(start: bytes, noise: bytes, size: int):
    try:
        found = explain.explain((start + noise).ljust(size, b"\xff"))
    except ConfigError:
        return
    assert json.dumps(found.facts)


@given(st.integers(0, 0x33000), st.binary(min_size=1, max_size=300))
def test_any_damage_to_a_whole_flash_is_explained(at: int, noise: bytes):
    content = merged()
    found = explain.explain(content[:at] + noise + content[at + len(noise) :])
    assert found.size_bytes >= len(content)


def test_integers_are_shown(rig_image):
    partition = io.BytesIO()
    with generator.nvs_open(partition, 2 * nvs.PAGE_BYTES, version=generator.Page.VERSION2) as opened:
        generator.write_entry(opened, "app", "namespace", "", "")
        generator.write_entry(opened, "count", "data", "u8", "5")
    _, found = rig_image(partition.getvalue())
    row = {"namespace": "app", "key": "count", "type": "u8", "size_bytes": 1, "value": 5}
    assert found["facts"]["values"] == [row]
