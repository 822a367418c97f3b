"""What is left to do, for any shard and in any generation."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_jobs.listing import Listed
from beam_jobs.parts import TOO_SLOW, BrokenPart, Outcome
from beam_jobs.plan import Plan, RunFolder
from beam_jobs.remaining_work import (
    RemainingWork,
    changed_files,
    may_change,
    missing_chunks,
    remaining_retries,
    remaining_work,
)
from serving.images.limits import MISSING
from serving.storage.disk import Disk
from serving.storage.stores import Stores
from tests.beam_jobs.runs import numbered, outcome, planned


@given(st.sets(st.integers(0, 500)), st.integers(1, 9))
def test_shards_share_the_work_out(chunks: set[int], of: int) -> None:
    work = RemainingWork(0, dict.fromkeys(chunks, 3))
    shares = [work.share(number, of).chunks for number in range(of)]
    assert sorted(chunk for share in shares for chunk in share) == sorted(chunks)
    assert work.row_count == 3 * len(chunks)


def test_chunks_without_a_part_are_left(tmp_path: Path) -> None:
    folder, plan = planned(tmp_path, numbered(10))
    parts = folder.parts(plan)
    assert remaining_work(plan, parts) == (0, {0: 4, 1: 4, 2: 2})
    parts.write(0, 1, [outcome(row, "predicted") for row in range(4)])
    assert remaining_work(plan, parts) == (0, {0: 4, 2: 2})
    assert missing_chunks(plan, parts) == [0, 2]


def unchanged(chunk: int, rejected: Sequence[Outcome]) -> set[int]:
    return set()


def redo(run: tuple[RunFolder, Plan], chunk: int, verdicts: str) -> None:
    """Gives a chunk another part: `p`redicted, `r`ejected and `f`ailed rows."""
    folder, plan = run
    parts = folder.parts(plan)
    (Path(parts.folder) / f"0-{chunk:08}.jsonl").unlink()
    words = {"p": "predicted", "r": "rejected", "f": "failed"}
    parts.write(0, chunk, [outcome(row, words[letter]) for row, letter in enumerate(verdicts)])  # type: ignore[arg-type]


def test_where_nothing_may_change_there_is_nothing_to_retry(finished: tuple[RunFolder, Plan]) -> None:
    folder, plan = finished
    redo(finished, 0, "prpr")
    assert remaining_retries(plan, folder.parts(plan), unchanged) == (0, {})
    assert folder.parts(plan).generations() == 0


def test_a_rejected_file_that_has_changed_is_to_be_retried(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("copied.jpg", "gone.jpg", "same.jpg", "touched.jpg")]
    for path in paths:
        path.write_bytes(b"half")
    folder, plan = planned(tmp_path / "out", [Listed(str(path)) for path in paths])
    parts = folder.parts(plan)
    stamps = [Disk().stamp(str(path)) for path in paths]
    parts.write(0, 0, [Outcome(row, "rejected", reason="corrupt", stamp=stamp) for row, stamp in enumerate(stamps)])
    find = changed_files(folder, plan, Stores())
    assert remaining_retries(plan, parts, find) == (0, {})
    paths[0].write_bytes(b"whole now")
    paths[1].unlink()
    os.utime(paths[3], (1, 1))
    assert remaining_retries(plan, parts, find) == (1, {0: 2})
    assert parts.coverage(1) == {0: [0, 3]}


def test_a_generation_is_finished_before_the_next_begins(finished: tuple[RunFolder, Plan]) -> None:
    folder, plan = finished
    parts = folder.parts(plan)
    redo(finished, 0, "pfpf")
    redo(finished, 2, "fr")
    assert remaining_retries(plan, parts, unchanged) == remaining_retries(plan, parts, unchanged) == (1, {0: 2, 2: 1})
    parts.write(1, 0, [outcome(1, "predicted"), outcome(3, "failed")])
    assert remaining_retries(plan, parts, unchanged) == (1, {2: 1})
    parts.write(1, 2, [outcome(0, "predicted")])
    assert remaining_retries(plan, parts, unchanged) == (2, {0: 1})
    parts.write(2, 0, [outcome(3, "predicted")])
    assert remaining_retries(plan, parts, unchanged) == (2, {})


def test_a_damaged_coverage_is_made_again(finished: tuple[RunFolder, Plan]) -> None:
    folder, plan = finished
    parts = folder.parts(plan)
    redo(finished, 2, "fp")
    work = remaining_retries(plan, parts, unchanged)
    coverage = Path(parts.folder) / "generation-1.json"
    coverage.write_text(coverage.read_text()[:-1])
    with pytest.raises(BrokenPart, match=r"generation-1\.json is damaged: delete it"):
        remaining_retries(plan, parts, unchanged)
    coverage.unlink()
    assert remaining_retries(plan, parts, unchanged) == work == (1, {2: 1})


def test_what_may_change_is_asked_for_again() -> None:
    assert may_change(Outcome(0, "failed", stage="predict", reason="refused"))
    assert may_change(Outcome(0, "rejected", stage="read", reason=MISSING))
    assert may_change(Outcome(0, "rejected", stage="predict", reason=TOO_SLOW))
    assert not may_change(Outcome(0, "rejected", stage="decode", reason="corrupt"))
    assert not may_change(Outcome(0, "predicted"))
