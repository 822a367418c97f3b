"""The lines of a log: what begins, how far it is, and again while the run goes on."""

import threading
from pathlib import Path

import pytest

from beam_jobs.progress_log import ProgressLines, Shown
from beam_jobs.summary_table import print_summary
from tests.beam_jobs.runs import numbered, planned


def test_lines_say_what_begins_and_how_far_it_is(tmp_path: Path) -> None:
    said: list[str] = []
    _, plan = planned(tmp_path / "out", numbered(1800), name="dogs")
    seconds = 0.0
    lines = ProgressLines(said.append, clock=lambda: seconds)
    lines.begin("listing the images")
    lines.start(plan, 1288, 512)
    for _ in range(88):
        lines.done("predicted")
    assert lines.line() == "600 of 1,800 images"  # no rate before a second has passed
    seconds = 10.0
    lines.done("rejected")
    lines.done("failed")
    assert said == [
        "listing the images",
        "continuing: 512 of 1,800 done; predicting 1,288 images of x with version 1 of dogs, as encoded",
    ]
    assert lines.line() == "602 of 1,800 images, 9.0/s, about 2 min left, 1 rejected, 1 failed"


def test_lines_are_repeated_while_a_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("beam_jobs.progress_log._EVERY_S", 0.01)
    _, plan = planned(tmp_path / "out", numbered(3))
    repeated = threading.Event()
    lines = ProgressLines(lambda line: repeated.set() if line == "0 of 3 images" else None)
    lines.start(plan, 3, 0)
    with lines.repeating():
        assert repeated.wait(60)


def test_the_end_says_what_this_process_did_and_what_was_there_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not the time since a run began: nobody worked between a stop and the next start."""
    _, plan = planned(tmp_path / "out", numbered(1800), name="dogs")
    seconds = 100.0
    shown = Shown(clock=lambda: seconds)
    shown.start(plan, 1288, 512)
    seconds = 164.4
    run = {"model": {"name": "dogs", "version": 3}, "seconds": 86_400.0}
    shown.finished(run)
    print_summary(run, shown.work)
    assert capsys.readouterr().out == "dogs version 3: 1,288 images in 64.4 s, 20.0 a second; 512 were done before\n"
    print_summary(run)
    assert capsys.readouterr().out == "dogs version 3\n"
