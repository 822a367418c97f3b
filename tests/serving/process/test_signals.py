"""Signals are heard while the main thread waits, whichever thread took them."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from serving.process.signals import handling_signals

WAITS_FOR_EVER = """
import os, signal, threading
from serving.process.signals import handling_signals

def take():
    # To this thread alone, as the system does with a process's signal when the main thread is slower.
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

def handle(number):
    print("heard", number, flush=True)
    os._exit(7)

with handling_signals(handle):
    threading.Timer(0.5, take).start()
    threading.Event().wait()
"""


def test_a_signal_that_another_thread_took_is_heard_while_the_main_thread_waits() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WAITS_FOR_EVER], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (7, f"heard {signal.SIGTERM:d}\n"), done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_handlers_are_as_before_when_it_is_over(number: signal.Signals) -> None:
    before, heard, told = signal.getsignal(number), [], threading.Event()

    def handle(received: int) -> None:
        heard.append(received)
        told.set()

    with handling_signals(handle):
        os.kill(os.getpid(), number)
        assert told.wait(60)
    assert heard == [number]
    assert signal.getsignal(number) is before
