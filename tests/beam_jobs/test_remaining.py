"""What is left to do, for any shard and in any generation."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_jobs.parts import BrokenPart
from beam_jobs.plan import Plan, RunFolder
from beam_jobs.remaining import RemainingWork, missing_chunks, remaining_retries, remaining_work
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
    assert remaining_retries(plan, folder.parts(plan)) == (0, {})
    assert folder.parts(plan).generations() == 0


def test_a_generation_is_finished_before_the_next_begins(finished: tuple[RunFolder, Plan]) -> None:
    folder, plan = finished
    parts = folder.parts(plan)
    redo(finished, 0, "pfpf")
    redo(finished, 2, "fr")
    assert remaining_retries(plan, parts) == remaining_retries(plan, parts) == (1, {0: 2, 2: 1})
    parts.write(1, 0, [outcome(1, "predicted"), outcome(3, "failed")])
    assert remaining_retries(plan, parts) == (1, {2: 1})
    parts.write(1, 2, [outcome(0, "predicted")])
    assert remaining_retries(plan, parts) == (2, {0: 1})
    parts.write(2, 0, [outcome(3, "predicted")])
    assert remaining_retries(plan, parts) == (2, {})


def test_a_damaged_coverage_is_made_again(finished: tuple[RunFolder, Plan]) -> None:
    folder, plan = finished
    parts = folder.parts(plan)
    redo(finished, 2, "fp")
    work = remaining_retries(plan, parts)
    coverage = Path(parts.folder) / "generation-1.json"
    coverage.write_text(coverage.read_text()[:-1])
    with pytest.raises(BrokenPart, match=r"generation-1\.json is damaged: delete it"):
        remaining_retries(plan, parts)
    coverage.unlink()
    assert remaining_retries(plan, parts) == work == (1, {2: 1})
