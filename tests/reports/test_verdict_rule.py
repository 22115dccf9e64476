"""One verdict a requirement: the worst of what judged it, and nothing passes by silence."""

import json

import pytest

from rig.evidence.verdicts import State
from rig.reports import record
from rig.reports.verdicts import read_state, verdicts, worst_first


@pytest.fixture
def judge(tmp_path):
    def of(*lines: str) -> dict[str, State]:
        rows = ['{"event": "requirement", "id": "A-01"}', '{"event": "requirement", "id": "B-01"}', *lines]
        (tmp_path / "journal.jsonl").write_text("\n".join(rows) + "\n")
        return {verdict.requirement.id: verdict.state for verdict in verdicts(record.load(tmp_path))}

    return of


def _start(*ids: str) -> str:
    return json.dumps({"event": "test_start", "test": "t", "requirements": ids})


def _end(outcome: str) -> str:
    return f'{{"event": "test_end", "test": "t", "outcome": "{outcome}"}}'


def _check(requirement: str, state: str) -> str:
    return f'{{"event": "check", "test": "t", "requirement": "{requirement}", "state": "{state}"}}'


def test_order_of_the_rule():
    names = [state.value for state in worst_first()]
    assert names == [
        *("fail", "error", "inconclusive", "conditional", "deviation", "not-run", "not-supported", "pass"),
    ]


def test_nothing_judged_is_not_run(judge):
    assert judge() == {"A-01": State.NOT_RUN, "B-01": State.NOT_RUN}


@pytest.mark.parametrize("state", [state.value for state in State])
def test_the_worst_wins_whatever_the_order(judge, state):
    assert judge(_check("A-01", "pass"), _check("A-01", state))["A-01"] == state
    assert judge(_check("A-01", state), _check("A-01", "pass"))["A-01"] == state


def test_an_unknown_state_is_an_error():
    assert read_state("passed") is State.ERROR


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        ("passed", State.INCONCLUSIVE),
        ("failed", State.FAIL),
        ("error", State.ERROR),
        ("skipped", State.NOT_RUN),
    ],
)
def test_a_test_that_recorded_nothing(judge, outcome, state):
    assert judge(_start("A-01"), _end(outcome))["A-01"] is state


def test_a_test_that_was_cut_off_adds_not_run(judge):
    assert judge(_start("A-01"), _check("A-01", "pass"))["A-01"] is State.NOT_RUN


def test_a_failure_that_is_told_turns_only_its_requirement_red(judge):
    lines = [_start("A-01", "B-01"), _check("A-01", "pass"), _check("B-01", "fail"), _end("failed")]
    assert judge(*lines) == {"A-01": State.PASS, "B-01": State.FAIL}


def test_what_a_failed_test_did_not_reach_is_not_run(judge):
    lines = [_start("A-01", "B-01"), _check("A-01", "fail"), _end("failed")]
    assert judge(*lines) == {"A-01": State.FAIL, "B-01": State.NOT_RUN}


def test_a_failure_after_a_pass_is_a_failure(judge):
    assert judge(_start("A-01"), _check("A-01", "pass"), _end("failed"))["A-01"] is State.FAIL


def test_a_requirement_outside_the_catalogue_is_still_shown(judge):
    assert judge(_check("Z-09", "fail"))["Z-09"] is State.FAIL
