"""Fixtures of the energy tests."""

import pytest

from rig.bench.bench import Bench
from rig.board import Board, Console
from rig.fixtures.coaps import Coaps
from rig.fixtures.measure import Measure
from rig.testplans.energy.windows import Exchanges


@pytest.fixture
def quiet_board(board: Board, coap: Coaps) -> None:
    """A board just reset: one that still answers a handshake given up by an earlier test would be paid for here."""
    board.hard_reset()
    board.wait_network()
    coap.prove_alive()


@pytest.fixture
def exchanges(bench: Bench, console: Console, measure: Measure) -> Exchanges:
    """Energies of exchanges, several times over."""
    return Exchanges(bench, console, measure)
