"""Parts: what became of each row of one chunk, written whole or not at all.

Generation 0 is the run itself; each `--retry-failed` adds a generation with new parts for the rows that had failed.
A part that is there is never written again, so a retried bundle, a second worker, another shard and a rerun are
all harmless.
"""

import json
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, get_args

from beam_jobs.manifest import json_lines
from beam_jobs.storage import Storage, join
from serving.errors import FlowImagesError

Verdict = Literal["predicted", "rejected", "failed"]
_VERDICTS = get_args(Verdict)


class Outcome(NamedTuple):
    """What became of one row of the manifest."""

    row: int
    """Its place in the chunk."""
    verdict: Verdict
    classes: Sequence[int] = ()
    """Indices of the labels, best first; for `predicted` only."""
    scores: Sequence[float] = ()
    stage: str = ""
    """Where it was rejected or failed: `list`, `read`, `decode` or `predict`."""
    reason: str = ""
    """One word, for scripts."""
    message: str = ""


def _outcome(fields: list[Any]) -> Outcome:
    outcome = Outcome(*fields)
    if outcome.verdict not in _VERDICTS:
        raise ValueError(f"unknown verdict {outcome.verdict!r}")
    return outcome


class BrokenPart(FlowImagesError):
    """A part does not hold the rows of its chunk: it was changed after it was written.

    `args` is (message, places of the rows that are missing).
    """


class Parts:
    """The parts of one run, by generation and chunk."""

    def __init__(self, storage: Storage, folder: str) -> None:
        self._storage = storage
        self._folder = folder

    def exists(self, generation: int, chunk: int) -> bool:
        """Is the chunk done in this generation?"""
        return self._storage.exists(self._path(generation, chunk))

    def done(self, generation: int) -> set[int]:
        """Chunks that are done in a generation."""
        names = [info.path.rsplit("/", 1)[-1] for info in self._storage.walk(join(self._folder, str(generation)))]
        return {int(name.removesuffix(".jsonl")) for name in names if name.endswith(".jsonl")}

    def write(self, generation: int, chunk: int, outcomes: Sequence[Outcome]) -> bool:
        """Writes a part; False if another worker was first, whose part then stands."""
        data = "".join(json.dumps(outcome, ensure_ascii=False) + "\n" for outcome in outcomes)
        return self._storage.create(self._path(generation, chunk), data.encode("utf-8"))

    def read(self, generation: int, chunk: int) -> list[Outcome]:
        """The outcomes of a chunk in one generation.

        Raises:
          FileNotFoundError: it isn't done.
          BrokenPart: the file is not as it was written.
        """
        path = self._path(generation, chunk)
        try:
            return [_outcome(fields) for fields in json_lines(self._storage.read(path))]
        except (ValueError, TypeError) as error:
            raise BrokenPart(f"{path} is damaged ({error}): delete it and run again, to redo its chunk") from error

    def latest(self, chunk: int, rows: int, generations: int) -> list[Outcome]:
        """The last word on each row of a chunk, in order, over all generations.

        Raises:
          FileNotFoundError: generation 0 isn't done.
          BrokenPart: a row is missing, repeated or unknown.
        """
        first = self.read(0, chunk)
        outcomes = {outcome.row: outcome for outcome in first}
        if [outcome.row for outcome in first] != list(range(rows)):
            raise BrokenPart(
                f"{self._path(0, chunk)} does not hold its {rows} rows once each: delete it and run again",
                sorted(set(range(rows)) - outcomes.keys()),
            )
        for generation in range(1, generations + 1):
            if self.exists(generation, chunk):
                outcomes |= {outcome.row: outcome for outcome in self.read(generation, chunk)}
        if len(outcomes) != rows:
            raise BrokenPart(f"a retry of chunk {chunk} has rows that the chunk has not: use --fresh")
        return list(outcomes.values())

    def _path(self, generation: int, chunk: int) -> str:
        return join(self._folder, str(generation), f"{chunk:08d}.jsonl")
