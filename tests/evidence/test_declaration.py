"""``dut.yaml``: what it decides, and how a mistake in it is told."""

from pathlib import Path

import pytest
import yaml

import rig.firmware
from rig.errors import ConfigError
from rig.evidence.declaration import load_declaration, missing_claims
from rig.evidence.requirements import CLAIMS, RELEASE, load_catalogue
from rig.testplans import CATALOGUE

GOOD = """\
product: lamp
maker: lamps
dtls:
  suites: [TLS_PSK_WITH_AES_128_CCM_8]
ports:
  - {transport: udp, port: 5684, service: coaps}
resources:
  - {path: /lamp, methods: [GET, PUT], purpose: command, observable: true, notifications: CON, values: ["0", "1"]}
  - {path: /log, methods: [GET], purpose: telemetry, blockwise: true}
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "dut.yaml"
    path.write_text(text)
    return path


def test_claims_follow_from_what_is_declared(tmp_path: Path) -> None:
    claims = load_declaration(write(tmp_path, GOOD)).claims()
    assert claims == {"psk.offered", "resources.writable", "resources.observable", "resources.blockwise"}
    more = (
        GOOD.replace("CCM_8]", "CCM_8]\n  resumption: [ticket]\n  connection_id: true") + "deep_sleep: {path: /sleep}\n"
    )
    assert load_declaration(write(tmp_path, more)).claims() - claims == {
        "resumption.offered",
        "cid.offered",
        "sleep.deep",
    }


def test_a_resource_is_found_by_what_a_test_needs(tmp_path: Path) -> None:
    declaration = load_declaration(write(tmp_path, GOOD))
    assert [one.path for one in (declaration.switchable(), declaration.resource("GET", blockwise=True)) if one] == [
        "/lamp",
        "/log",
    ]
    assert declaration.resource("DELETE") is None


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("TLS_PSK_WITH_AES_128_CCM_8", "TLS_PSK_WITH_AES_128_CCM_9", "dut.yaml:4: dtls.suites.0: no suite is called"),
        ("path: /log", "path: log", "dut.yaml:9: resources.1.path: 'log' does not begin with /"),
        ("notifications: CON, ", "", "dut.yaml:8: resources.0: an observable resource has GET"),
        ("purpose: telemetry", "purpose: fun", "dut.yaml:9: resources.1.purpose"),
        ("maker: lamps", "makers: lamps", "dut.yaml:2: makers: unknown key; did you mean 'maker'?"),
        ("port: 5684", "port: 70000", "dut.yaml:6: ports.0.port"),
    ],
)
def test_a_mistake_is_told_with_file_line_and_key(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(ConfigError) as raised:
        load_declaration(write(tmp_path, GOOD.replace(old, new)))
    assert message in str(raised.value)


def test_the_claims_of_the_catalogue_can_all_be_made(tmp_path: Path) -> None:
    everything = yaml.safe_load(GOOD) | {
        "role": "both",
        "multicast_groups": ["224.0.1.187"],
        "deep_sleep": {"path": "/sleep", "sessions_survive": True},
    }
    everything["dtls"] |= {
        "versions": ["DTLS 1.2", "DTLS 1.3"],
        "credentials": ["psk", "certificate"],
        "resumption": ["session-id"],
        "connection_id": True,
    }
    everything["ports"].append({"transport": "udp", "port": 5683, "service": "coap"})
    everything["resources"][0]["etag"] = True
    declared = load_declaration(write(tmp_path, yaml.safe_dump(everything))).claims()
    assert declared == set(CLAIMS) - {RELEASE}


def test_the_firmware_declares_what_most_rows_ask_for() -> None:
    path = next(Path(one) / "dut.yaml" for one in rig.firmware.__path__)
    claims = load_declaration(path).claims()
    rows = load_catalogue(CATALOGUE).values()
    assert sum(not missing_claims(row.applicable, claims) for row in rows) > 110
