"""The firmware's payload profile encrypts payloads and nothing else: the wire shows the rest, and the plan says so."""

import json
from pathlib import Path
from typing import Any

import yaml

from rig.virtual.firmware import build_image_set

DECLARATION = """
product: example light, encrypted payloads on plain CoAP
maker: coaps-rig
dtls: {suites: [TLS_PSK_WITH_AES_128_CCM_8]}
ports:
  - {transport: udp, port: 5683, service: coap}
resources:
  - {path: /light, methods: [GET, PUT], purpose: command}
  - {path: /.well-known/core, methods: [GET], purpose: information}
"""


def test_payload_encryption_alone_gives_the_rest_away(
    blank_board: dict[str, Any], rig: Any, verdicts: Any, tmp_path: Path
) -> None:
    build = build_image_set(tmp_path / "build", payload_encryption=True)
    (tmp_path / "dut.yaml").write_text(DECLARATION)
    bench_file = blank_board["bench"]
    bench = yaml.safe_load(bench_file.read_text())
    bench["boards"][0] |= {"firmware": str(build), "dut": str(tmp_path / "dut.yaml")}
    bench_file.write_text(yaml.safe_dump(bench))
    run = rig("run", "--json", "--bench", bench_file, "-k", "canaries")
    assert run.returncode == 1, run.stderr
    assert verdicts(run) == {"WIR-02": "fail"}
    (row,) = json.loads(run.stdout)["verdicts"]
    assert all(f": {place}" in row["observed"] for place in ("path", "query", "ETag"))
    run = rig("run", "--json", "--bench", bench_file, "--flash", "never", "-k", "amplify")
    assert set(verdicts(run)) == {"WIR-06"}
    assert "requests answered" in json.loads(run.stdout)["verdicts"][0]["observed"]
    run = rig("run", "energy", "--json", "--bench", bench_file, "--flash", "never", "-k", "without_dtls")
    assert verdicts(run) == {"ENE-16": "pass"}, run.stderr
