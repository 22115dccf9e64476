"""The lock of a board, across processes."""

import json
import os
import signal
import subprocess
import sys

import pytest

from rig.board import BoardBusy, BoardLock

HOLDER = """
import sys
from rig.board import BoardLock
with BoardLock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def mac(request):
    """A MAC that no bench has (locally administered), one for each test and process."""
    digest = abs(hash((request.node.name, os.getpid()))) & 0xFFFFFFFF
    mac = "02:00:" + ":".join(f"{byte:02x}" for byte in digest.to_bytes(4, "big"))
    yield mac
    BoardLock(mac).path.unlink(missing_ok=True)


@pytest.fixture
def holder(mac):
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, mac], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_the_refused_one_is_told_who_holds_it(mac, holder):
    with pytest.raises(BoardBusy) as caught, BoardLock(mac.upper()):
        pass
    message = str(caught.value)
    assert mac in message
    assert f"process {holder.pid}" in message
    assert "s ago" in message
    assert "from rig.board import BoardLock" in message  # the command it runs


def test_the_kernel_frees_it_when_the_holder_is_killed(mac, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with BoardLock(mac):
        pass


def test_it_can_be_taken_again_after_leaving(mac):
    lock = BoardLock(mac)
    for _ in range(2):
        with lock:
            facts = json.loads(lock.path.read_text())
            assert facts["pid"] == os.getpid()
            assert facts.keys() == {"pid", "user", "since", "command"}
    assert lock.path.read_text() == ""


def test_two_in_one_process_exclude_each_other(mac):
    with BoardLock(mac), pytest.raises(BoardBusy, match=f"process {os.getpid()}"), BoardLock(mac):
        pass


def test_another_board_is_free(mac, holder):
    other = BoardLock(mac.replace("02:00", "02:01"))
    with other:
        assert holder.poll() is None
    other.path.unlink()


@pytest.mark.parametrize(
    "content", ["", "no json", "[]", '{"pid": "x"}', '{"pid": 1, "user": "u", "since": "?", "command": "c"}']
)
@pytest.mark.usefixtures("holder")
def test_a_holder_that_wrote_nonsense_still_excludes(mac, content):
    BoardLock(mac).path.write_text(content)
    with pytest.raises(BoardBusy, match="is held by"), BoardLock(mac):
        pass


def test_files_are_open_to_every_user(mac):
    lock = BoardLock(mac)
    with lock:
        assert lock.path.stat().st_mode & 0o777 == 0o666
        assert lock.path.parent.stat().st_mode & 0o7777 == 0o1777
