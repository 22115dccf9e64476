"""What messages cost in flash: ENE-11."""

import pytest

from rig.bench.bench import Bench
from rig.board import Board
from rig.coap.probe import Prober
from rig.fixtures.measure import Measure
from rig.fixtures.partitions import read_data_partitions

REQUESTS = 20


@pytest.mark.requirement("ENE-11")
def test_requests_write_nothing_to_flash(bench: Bench, board: Board, probe: Prober, measure: Measure) -> None:
    first = read_data_partitions(bench, board)
    board.wait_network()
    booted = read_data_partitions(bench, board)
    board.wait_network()
    with probe.session() as session:
        for _ in range(REQUESTS):
            session.get(probe.life)
    asked = read_data_partitions(bench, board)
    board.wait_network()
    evidence = [measure.facts("partitions", {label: len(content) for label, content in asked.items()})]
    by_boot, by_requests = _changed(first, booted), _changed(booted, asked)
    if by_boot:
        told = ", ".join(by_boot)
        measure.inconclusive("ENE-11", "a boot changes nothing", observed=f"a boot changes {told}", evidence=evidence)
    measure.check(
        "ENE-11",
        f"{REQUESTS} requests in a session change no data partition",
        not by_requests,
        observed=f"bytes changed: {', '.join(by_requests) or 'none'} in {', '.join(asked)}",
        evidence=evidence,
    )


def _changed(before: dict[str, bytes], after: dict[str, bytes]) -> list[str]:
    counts = {label: sum(a != b for a, b in zip(before[label], after[label], strict=True)) for label in before}
    return [f"{count} of {label}" for label, count in counts.items() if count]
