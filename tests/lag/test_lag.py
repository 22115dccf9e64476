"""The lag monitor, on a host that is held up on purpose."""

import os
import signal
import subprocess
import sys
import time

from rig.lag import LagMonitor

STOPPED = """
import time
from rig.clock import now_s
from rig.lag import LagMonitor
with LagMonitor() as lag:
    time.sleep(0.05)
    print("ready", flush=True)
    input()
    stopped_s = now_s()
    time.sleep(0.05)
print(lag.worst_s, lag.around_s(stopped_s), lag.around_s(stopped_s - 1))
"""


def test_a_process_that_was_stopped_notices_it() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STOPPED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        time.sleep(0.2)
        process.send_signal(signal.SIGCONT)
        worst_s, then_s, before_s = map(float, process.communicate("go\n")[0].split())
    assert worst_s > 0.15
    assert then_s == worst_s
    assert before_s == 0


def test_a_lag_counts_against_the_tolerance_that_is_judged_with() -> None:
    lag = LagMonitor()
    lag.worst_s = 0.02
    assert lag.exceeds(0.1)
    assert not lag.exceeds(0.2)
