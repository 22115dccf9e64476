"""What the board prints: PLT-01, PLT-02."""

import re

import pytest

from rig.bench.bench import Bench
from rig.board import Board
from rig.fixtures.coaps import Coaps
from rig.fixtures.measure import Measure
from rig.fixtures.secrets import secrets_of
from rig.formats.leaks import find_leaks

PANIC = re.compile(
    r"Guru Meditation|Backtrace:|Stack memory:|Core\s+\d+ register dump|abort\(\) was called|\bMEPC\s*:|\bA0\s*: 0x"
)
"""What ESP-IDF's panic handler prints, on RISC-V and on Xtensa."""


@pytest.mark.requirement("PLT-01")
def test_no_credential_on_the_console(bench: Bench, board: Board, coap: Coaps, measure: Measure) -> None:
    board.hard_reset()
    board.wait_network()
    coap.prove_alive()
    coap.attempt(identity=f"not-{coap.identity}"[:32], psk=coap.psk)
    coap.prove_alive()
    said = board.console.logfile.read_bytes()
    found = find_leaks(said, secrets_of(bench))
    measure.check(
        "PLT-01",
        "neither key, Wi-Fi passphrase nor private key is on the console of boot and handshakes",
        not found,
        observed=f"{len(said)} bytes of console since the run began; in them: {', '.join(found) or 'none of these'}",
        evidence=[board.console.logfile],
    )


@pytest.mark.requirement("PLT-02")
def test_no_dump_on_the_console(board: Board, coap: Coaps, measure: Measure) -> None:
    coap.prove_alive()
    said = board.console.logfile.read_text(encoding="utf-8", errors="replace")
    found = sorted({match[0] for match in PANIC.finditer(said)})
    measure.check(
        "PLT-02",
        "no backtrace and no register dump is on the console of the run",
        not found,
        observed=f"{len(said)} characters of console; panic text in them: {', '.join(found) or 'none'}",
        evidence=[board.console.logfile],
        notes=["a fault that the run did not cause shows nothing here: see the image's configuration (PLT-06)"],
    )
