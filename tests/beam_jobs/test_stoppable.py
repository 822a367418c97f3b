"""A command whose work goes on after a signal still ends."""

import signal
import subprocess
import sys

import pytest

STUBBORN = """
import time
from beam_jobs import stop_request
from beam_jobs.stoppable import stoppable

if {never_in_time}:
    stop_request.exit_after = lambda *_: None
with stoppable("predict", lambda: "3 of 9 images are done"):
    print("working", flush=True)
    time.sleep(120)
    time.sleep(120)
"""


def stubborn(*, never_in_time: bool) -> subprocess.Popen[str]:
    """A command that doesn't heed `stop_request.STOP`; it is at work."""
    script = STUBBORN.format(never_in_time=never_in_time)
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert process.stdout.readline() == "working\n"
    return process


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_one_signal_ends_work_that_goes_on(number: signal.Signals, code: int) -> None:
    process = stubborn(never_in_time=False)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == code
    assert "stopping; press Ctrl-C again to stop at once" in said
    assert said.endswith("flow-images predict: interrupted; the same command continues\n")


def test_a_second_signal_ends_it_at_once() -> None:
    process = stubborn(never_in_time=True)
    assert process.stderr
    process.send_signal(signal.SIGINT)
    assert process.stderr.readline() == "\n"
    assert process.stderr.readline() == "stopping; press Ctrl-C again to stop at once\n"
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said == "flow-images predict: interrupted; the same command continues\n"
