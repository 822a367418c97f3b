"""The progress of workers elsewhere, told by their parts."""

import threading
from pathlib import Path

from beam_jobs import progress
from beam_jobs.part_watch import watching_parts
from beam_jobs.parts import Parts, Verdict
from serving.storage.disk import Disk
from tests.beam_jobs.runs import outcome

RUN = "a-run"


def write(parts: Parts, chunk: int, *verdicts: Verdict) -> None:
    parts.write(0, chunk, [outcome(row, verdict) for row, verdict in enumerate(verdicts)])


def test_each_outcome_is_told_once_and_all_at_the_end(tmp_path: Path) -> None:
    parts, told, first = Parts(Disk(), str(tmp_path)), list[Verdict](), threading.Event()

    def listen(verdict: Verdict) -> None:
        told.append(verdict)
        first.set()

    write(parts, 7, "failed")  # of another process's share
    with progress.listening(RUN, listen):
        with watching_parts(RUN, parts, 0, [0, 1, 2]):
            write(parts, 1, "predicted", "rejected")
            assert first.wait(60)  # while the run goes on
            write(parts, 0, "predicted")
        assert sorted(told) == ["predicted", "predicted", "rejected"]


def test_a_folder_that_is_away_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with watching_parts(RUN, Parts(Disk(), str(tmp_path / "file" / "parts")), 0, [0]):
        pass
