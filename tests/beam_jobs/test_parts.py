"""Parts: written once and whole, and found out if they are not as they were written."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from beam_jobs.chunk_work import ChunkWork
from beam_jobs.parts import BrokenPart, Outcome, Parts
from beam_jobs.plan import Plan, RunFolder
from serving.storage.disk import Disk
from tests.beam_jobs.runs import outcome

ROWS = [outcome(row, "predicted") for row in range(4)]


@pytest.fixture
def parts(finished: tuple[RunFolder, Plan]) -> Parts:
    """The parts of a finished run: chunks of 4, 4 and 2 rows."""
    folder, plan = finished
    return folder.parts(plan)


def file(parts: Parts, chunk: int, generation: int = 0) -> Path:
    return Path(parts.folder) / f"{generation}-{chunk:08}.jsonl"


def test_outcomes_come_back_as_they_were_written(tmp_path: Path) -> None:
    parts = Parts(Disk(), str(tmp_path))
    odd = Outcome(1, "failed", [], [], stage="read", reason="unreadable", message='犬 "\n\u2028')
    embedded = outcome(2, "predicted")._replace(facts=[640], embedding="AAD/ew==")
    written = [outcome(0, "predicted"), odd, embedded]
    assert parts.write(0, 7, written)
    assert parts.read(0, 7) == written
    assert parts.done(0) == {7}
    assert parts.exists(0, 7)


def test_when_a_part_was_made_is_no_outcome_and_is_found_at_its_end(tmp_path: Path) -> None:
    parts = Parts(Disk(), str(tmp_path))
    long = Outcome(0, "failed", [], [], "read", "unreadable", '{"began": 1} ' * 500)
    works = [ChunkWork(1796000000.5, 3.25, rows, 2, 1) for rows in (1, 2)]
    parts.write(0, 0, [long], works[0])
    parts.write(1, 0, [outcome(0, "predicted"), outcome(1, "predicted")], works[1])
    parts.write(0, 1, [outcome(0, "predicted")])
    parts.write(0, 2, [long])
    parts.add_generation(1, {0: [0, 1]})
    assert parts.read(0, 0) == [long]
    assert parts.read(1, 0) == [outcome(0, "predicted"), outcome(1, "predicted")]
    assert sorted(parts.works()) == sorted(works)


def test_a_part_of_the_first_release_is_read(tmp_path: Path) -> None:
    name = "0-00000003.jsonl"
    rows = b'[0, "predicted", [1, 0], [0.75, 0.25], "", "", ""]\n[1, "rejected", [], [], "read", "missing", "none"]\n'
    checksum = hashlib.sha256(f"{name}\n".encode() + rows).hexdigest().encode()
    (tmp_path / name).write_bytes(rows + checksum + b"\n")
    parts = Parts(Disk(), str(tmp_path))
    assert parts.read(0, 3) == [
        Outcome(0, "predicted", [1, 0], [0.75, 0.25]),
        Outcome(1, "rejected", [], [], "read", "missing", "none"),
    ]
    assert parts.works() == []


def test_the_first_part_stands(parts: Parts) -> None:
    assert not parts.write(0, 0, [outcome(row, "failed") for row in range(4)])
    assert parts.read(0, 0) == ROWS


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text + text.splitlines()[0] + "\n",
        lambda text: text.replace("0.75", "0.76", 1),
        lambda text: text[:-9],
        lambda text: "",
        lambda text: "\n".join(text.splitlines()[::-1]),
    ],
    ids=["repeated", "score", "cut", "empty", "order"],
)
def test_a_changed_part_is_found_out(parts: Parts, change: Callable[[str], str]) -> None:
    file(parts, 0).write_text(change(file(parts, 0).read_text()))
    with pytest.raises(BrokenPart, match=r"0-00000000\.jsonl is damaged: delete it and run again") as error:
        parts.read(0, 0)
    assert error.value.exit_code == 1


def test_a_part_in_another_ones_place_is_found_out(parts: Parts) -> None:
    shutil.copy(file(parts, 0), file(parts, 1))
    with pytest.raises(BrokenPart, match="0-00000001"):
        parts.read(0, 1)


def test_a_part_in_another_generation_is_found_out(parts: Parts) -> None:
    shutil.copy(file(parts, 0), file(parts, 0, generation=1))
    with pytest.raises(BrokenPart, match="1-00000000"):
        parts.latest(0, 4, 1)


def test_a_part_has_all_rows_of_its_chunk_once(parts: Parts) -> None:
    for wrong in (ROWS[:3], [*ROWS, ROWS[3]], ROWS[::-1]):
        file(parts, 0).unlink()
        parts.write(0, 0, wrong)
        with pytest.raises(BrokenPart, match="does not hold its 4 rows"):
            parts.latest(0, 4, 0)


def test_a_retry_has_no_rows_of_its_own(parts: Parts) -> None:
    parts.write(1, 0, [outcome(4, "predicted")])
    with pytest.raises(BrokenPart, match="rows that are not in the chunk"):
        parts.latest(0, 4, 1)


def test_the_newest_outcome_of_a_row_counts(parts: Parts) -> None:
    parts.write(1, 0, [outcome(1, "failed"), outcome(3, "failed")])
    parts.write(2, 0, [outcome(3, "rejected")])
    assert [one.verdict[0] for one in parts.latest(0, 4, 2)] == list("pfpr")
    assert [one.verdict[0] for one in parts.latest(0, 4, 1)] == list("pfpf")
    assert parts.latest(1, 4, 2) == ROWS


def test_generations_are_counted_by_their_coverage(parts: Parts) -> None:
    assert parts.generations() == 0
    parts.add_generation(1, {0: [1, 3]})
    parts.add_generation(1, {2: [0]})  # another process was first
    assert parts.generations() == 1
    assert parts.coverage(1) == {0: [1, 3]}
