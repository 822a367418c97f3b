"""Parts: the outcome of each row of one chunk, in one file that is written whole or not at all.

A part that is there is never written again, so a retried bundle, a second worker, another shard and a rerun do no
harm. Its last line is a checksum of its name and rows: one that was cut, changed or copied over another is
detected. The line before says when it was made (see `beam_jobs.chunk_work`).

**Generations.** Generation 0 is the run itself: it has a part for every chunk. Each `retry_failed` adds a generation,
1 and so on, with parts for only the rows whose outcome may change (see `beam_jobs.remaining_work`). The newest outcome
of a row counts. A part is named `GENERATION-CHUNK.jsonl`; from 1 on, `generation-N.json` says which rows of which
chunks the generation covers, and makes it exist.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from beam_jobs.chunk_work import ChunkWork
from beam_jobs.manifest import json_lines
from serving.errors import FlowImagesError
from serving.images.limits import MISSING
from serving.storage.base import FileInfo, Stamp, Storage, join
from serving.storage.transfer import together

TOO_SLOW = "too_slow"
"""The reason where a server that answers others does not answer about this image in time."""

Verdict = Literal["predicted", "rejected", "failed"]


class Outcome(NamedTuple):
    """The outcome of one row of the manifest."""

    row: int
    """The row's place in the chunk."""
    verdict: Verdict
    classes: Sequence[int] = ()
    """Indices of the labels, best first; for `predicted` only."""
    scores: Sequence[float] = ()
    stage: str = ""
    """The step in which the image was rejected or failed: `list`, `read`, `decode` or `predict`."""
    reason: str = ""
    """One word, for scripts."""
    message: str = ""
    """A sentence, for people."""
    stamp: Stamp | None = None
    """For a rejected image, the stamp that its file had when it was read; None if it was not read."""
    group: tuple[str, float] | None = None
    """For a predicted image, the best group of labels and its score; None where the model has none."""
    facts: Sequence[str | int | None] = ()
    """For a predicted image, its facts in the order of the plan's columns."""
    embedding: str = ""
    """For a predicted image, its embedding as `beam_jobs.embeddings` packs it; empty where the run keeps none."""

    @property
    def was_read(self) -> bool:
        """Was the file there and readable?"""
        return self.stage not in ("list", "read") or self.reason not in (MISSING, "bad_name", "unreadable")


class BrokenPart(FlowImagesError):
    """A part does not hold the rows of its chunk: it was changed after it was written."""


class Parts:
    """The parts of one run, by generation and chunk."""

    def __init__(self, storage: Storage, folder: str) -> None:
        """`folder` holds the parts of this run alone; see `RunFolder.parts`."""
        self.storage = storage
        self.folder = folder

    def exists(self, generation: int, chunk: int) -> bool:
        """Is the chunk done in this generation?"""
        return self.storage.exists(self._path(generation, chunk))

    def done(self, generation: int) -> set[int]:
        """Chunks that are done in a generation."""
        names = [_NAME.fullmatch(info.name) for info in self.storage.walk(self.folder)]
        return {int(name["chunk"]) for name in names if name and int(name["generation"]) == generation}

    def write(self, generation: int, chunk: int, outcomes: Sequence[Outcome], work: ChunkWork | None = None) -> bool:
        """Writes a part; False if another worker was first, whose part then stands."""
        rows = "".join(json.dumps(_written(one), ensure_ascii=False) + "\n" for one in outcomes).encode("utf-8")
        rows += work.line() if work else b""
        return self.storage.create(self._path(generation, chunk), rows + _checksum(generation, chunk, rows))

    def read(self, generation: int, chunk: int) -> list[Outcome]:
        """The outcomes of a chunk in one generation.

        Raises:
          FileNotFoundError: it isn't done.
          BrokenPart: the file is not as it was written.
        """
        path = self._path(generation, chunk)
        data = self.storage.read(path)
        rows, checksum = data[:-_CHECKSUM_BYTES], data[-_CHECKSUM_BYTES:]
        if checksum != _checksum(generation, chunk, rows):
            raise BrokenPart(f"{path} is damaged: delete it and run again, to redo its chunk")
        return [Outcome(*fields) for fields in json_lines(rows) if isinstance(fields, list)]

    def works(self) -> list[ChunkWork]:
        """How each chunk was worked through, in no order; parts of the first release don't tell."""
        found = together(self._work, (info for info in self.storage.walk(self.folder) if _NAME.fullmatch(info.name)))
        return [work for work in found if work]

    def _work(self, info: FileInfo) -> ChunkWork | None:
        """What the line before the checksum tells; the other lines are not read."""
        size = int(self.storage.stamp(info.path)["size"]) if info.size is None else info.size
        lines = self.storage.read_range(info.path, max(0, size - _END_BYTES), size).split(b"\n")
        return ChunkWork.of(lines[-3]) if len(lines) > 3 else None

    def generations(self) -> int:
        """The newest generation."""
        newest = 0
        while self.storage.exists(self._coverage_path(newest + 1)):
            newest += 1
        return newest

    def add_generation(self, generation: int, coverage: Mapping[int, Sequence[int]]) -> None:
        """Makes a new generation, unless another process did so first.

        Args:
          generation: its number, from 1.
          coverage: its rows in each chunk that it has a part for.
        """
        self.storage.create(self._coverage_path(generation), json.dumps(coverage).encode())

    def coverage(self, generation: int) -> dict[int, list[int]]:
        """A generation's rows in each of its chunks.

        Raises:
          BrokenPart: the file is not as it was written.
        """
        path = self._coverage_path(generation)
        try:
            found = json.loads(self.storage.read(path)).items()
            return {int(chunk): [int(row) for row in rows] for chunk, rows in found}
        except (ValueError, TypeError, AttributeError) as error:
            raise BrokenPart(f"{path} is damaged: delete it and run again with `retry_failed`") from error

    def latest(self, chunk: int, rows: int, generations: int) -> list[Outcome]:
        """The newest outcome of each row of a chunk, in the order of the rows.

        Args:
          chunk: its number.
          rows: how many it has.
          generations: the last one to take into account.

        Raises:
          FileNotFoundError: generation 0 isn't done.
          BrokenPart: a row is missing, repeated or unknown.
        """
        first = self.read(0, chunk)
        if [outcome.row for outcome in first] != list(range(rows)):
            raise BrokenPart(f"{self._path(0, chunk)} does not hold its {rows} rows: delete it and run again")
        outcomes = {outcome.row: outcome for outcome in first}
        for generation in range(1, generations + 1):
            if self.exists(generation, chunk):
                outcomes |= {outcome.row: outcome for outcome in self.read(generation, chunk)}
        if len(outcomes) != rows:
            raise BrokenPart(f"a retry of chunk {chunk} has rows that are not in the chunk: use `fresh`")
        return list(outcomes.values())

    def _path(self, generation: int, chunk: int) -> str:
        return join(self.folder, _name(generation, chunk))

    def finished_path(self, generation: int) -> str:
        """The file that keeps what was written when a generation was complete; see `beam_jobs.finished`."""
        return join(self.folder, f"finished-{generation}.json")

    def written_path(self, name: str) -> str:
        """The file that says that the run wrote a file of results; see `beam_jobs.finished`."""
        return join(self.folder, f"written-{name}")

    def _coverage_path(self, generation: int) -> str:
        return join(self.folder, f"generation-{generation}.json")


def _written(outcome: Outcome) -> Sequence[Any]:
    """The fields of an outcome, without those at the end that few outcomes have."""
    used = len(outcome)
    while used > _ALWAYS and not outcome[used - 1]:
        used -= 1
    return outcome[:used]


_ALWAYS = Outcome._fields.index("stamp")
_NAME = re.compile(r"(?P<generation>\d+)-(?P<chunk>\d+)\.jsonl")


def _name(generation: int, chunk: int) -> str:
    return f"{generation}-{chunk:08d}.jsonl"


_END_BYTES = 1024
"""At the end of a part; they hold at least the last two lines and the end of the one before."""
_CHECKSUM_BYTES = 2 * hashlib.sha256().digest_size + 1


def _checksum(generation: int, chunk: int, rows: bytes) -> bytes:
    """The last line of a part."""
    return hashlib.sha256(f"{_name(generation, chunk)}\n".encode() + rows).hexdigest().encode() + b"\n"
