"""The journal is read to its last whole line, whatever the rest is."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rig.reports import record
from rig.reports.html import render
from rig.reports.page import page
from rig.reports.summary import summary

_ANY_FOLDER = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
_EVENTS = st.sampled_from(
    [
        *("run_start", "bench", "limits", "requirement", "flashed", "mark", "test_start", "test_end", "check"),
        *("measurement", "waveform", "phases", "packets", "attempts", "bench_error", "retry", "instrument_errors"),
        *("run_end", "new_event"),
    ]
)
_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
_KEYS = st.sampled_from(
    [
        *("t_s", "test", "requirement", "requirements", "state", "value", "unit", "limit", "budget", "evidence", "k"),
        *("parts", "phases", "file", "samples", "interval_s", "t0_s", "attempts", "bench", "limits", "id", "outcome"),
        *("host", "app", "fields", "at_s", "name", "board", "errors", "command", "versions", "duration_s"),
    ]
)
_LINES = st.builds(lambda event, rest: {**rest, "event": event}, _EVENTS, st.dictionaries(_KEYS, _JSON, max_size=8))


def test_whole_run(make_run):
    run = record.load(make_run())
    assert run.finished
    assert run.exit_code == 1
    assert run.duration_s == 97.25
    assert run.damaged_lines == 0
    assert not run.cut
    assert not run.unknown_events
    assert [m.name for m in run.measurements] == ["handshake_energy", "sleep_current", "request_energy"]


def test_cut_run(make_run):
    run = record.load(make_run(finish=False))
    assert not run.finished
    assert run.cut
    assert run.exit_code is None
    assert run.damaged_lines == 0


def test_damaged_and_unknown_lines_are_counted(make_run):
    directory = make_run()
    with (directory / "journal.jsonl").open("a") as journal:
        journal.write('nonsense\n[1, 2]\n{"t_s": 1, "event": "tea_break"}\n')
    run = record.load(directory)
    assert run.damaged_lines == 2
    assert run.unknown_events == {"tea_break": 1}


def test_no_journal_is_one_sentence(tmp_path):
    with pytest.raises(record.RecordError, match=r"journal\.jsonl: cannot be read .*give the folder of a run"):
        record.load(tmp_path)


def test_a_path_never_leaves_the_run(make_run):
    run = record.load(make_run())
    (run.directory.parent / "outside").write_text("secret")
    assert run.path("../outside") is None
    assert run.path(str(run.directory.parent / "outside")) is None
    assert run.path("a\0b") is None
    assert run.path("x" * 5000) is None
    assert run.path("handshake.pcapng") == run.directory.resolve() / "handshake.pcapng"


@pytest.fixture
def whole_journal(make_run) -> tuple[Path, bytes]:
    """A run, and its journal as it was written."""
    directory = make_run(samples=600)
    return directory, (directory / "journal.jsonl").read_bytes()


@_ANY_FOLDER
@given(st.data())
def test_any_prefix_of_a_journal_loads(whole_journal, data):
    directory, content = whole_journal
    prefix = content[: data.draw(st.integers(0, len(content)))]
    (directory / "journal.jsonl").write_bytes(prefix)
    run = record.load(directory)
    assert run.damaged_lines == 0
    assert run.finished == (len(prefix) >= len(content) - 1)
    assert len(run.checks) == sum(_is_check(line) for line in prefix.split(b"\n"))


def _is_check(line: bytes) -> bool:
    """True for a whole line; the last one may lack its newline."""
    try:
        return json.loads(line)["event"] == "check"
    except ValueError:
        return False


@_ANY_FOLDER
@given(st.binary(max_size=400))
def test_any_bytes_load(tmp_path, content):
    (tmp_path / "journal.jsonl").write_bytes(content)
    record.load(tmp_path)


@_ANY_FOLDER
@given(st.lists(_LINES, max_size=8))
def test_any_events_make_a_page_and_a_summary(tmp_path: Path, lines):
    (tmp_path / "journal.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    run = record.load(tmp_path)
    assert run.damaged_lines == 0
    render(page(run)).encode()
    json.dumps(summary(run), allow_nan=False)
