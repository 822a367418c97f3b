"""What is left to do: chunks without a part, and for `retry_failed` the rows whose outcome may change.

`beam_jobs.parts` says what a generation is.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from beam_jobs.parts import TOO_SLOW, Outcome, Parts
from beam_jobs.plan import Plan, RunFolder
from serving.errors import FileError, StorageUnavailable
from serving.images.limits import MISSING
from serving.storage.base import Storage, differ
from serving.storage.transfer import together

FindChanged = Callable[[int, Sequence[Outcome]], set[int]]
"""Gives the rows, among some of a chunk that were rejected, whose files have changed since."""


class RemainingWork(NamedTuple):
    """What is left to do in one generation."""

    generation: int
    rows: Mapping[int, int]
    """The number of rows to predict in each chunk."""

    @property
    def chunks(self) -> list[int]:
        """Numbers of the chunks."""
        return list(self.rows)

    @property
    def row_count(self) -> int:
        """Number of rows in all chunks."""
        return sum(self.rows.values())

    def share(self, number: int, of: int) -> "RemainingWork":
        """The part of one shard: the chunks k with k mod of = number."""
        return self._replace(rows={chunk: rows for chunk, rows in self.rows.items() if chunk % of == number})


def may_change(outcome: Outcome) -> bool:
    """May an image get another outcome if it is asked about again, though its file is the same?

    A failure was the system's, a missing file may come back, and a longer deadline may be given.
    """
    return outcome.verdict == "failed" or outcome.reason in (MISSING, TOO_SLOW)


def missing_chunks(plan: Plan, parts: Parts) -> list[int]:
    """Chunks of the run that have no part, in order."""
    return sorted(set(range(plan.manifest.chunks)) - parts.done(0))


def remaining_work(plan: Plan, parts: Parts) -> RemainingWork:
    """The chunks of the run that have no part."""
    return RemainingWork(0, {chunk: plan.manifest.rows_in(chunk) for chunk in missing_chunks(plan, parts)})


def remaining_retries(plan: Plan, parts: Parts, find_changed: FindChanged) -> RemainingWork:
    """What the newest generation still has to do; if that is nothing, a new generation of all rows that may change.

    A new generation is written down first, so that every shard and rerun works on the same rows. All chunks of the run
    must have their part.
    """
    newest = parts.generations()
    if newest:
        unfinished = _unfinished(parts, newest)
        if unfinished.rows:
            return unfinished
    coverage = _rows_that_may_change(plan, parts, newest, find_changed)
    if not coverage:
        return RemainingWork(newest, {})
    parts.add_generation(newest + 1, coverage)
    return _unfinished(parts, newest + 1)


def changed_files(folder: RunFolder, plan: Plan, stores: Callable[[str], Storage]) -> FindChanged:
    """Finds the rejected images whose file has another size, time or etag now: one that was still being copied, say."""

    def find(chunk: int, rejected: Sequence[Outcome]) -> set[int]:
        paths = [row.path for row in folder.read_places(plan, chunk)]

        def has_changed(outcome: Outcome) -> bool:
            path = paths[outcome.row]
            try:
                return differ(outcome.stamp or {}, stores(path).stamp(path))
            except (OSError, FileError, StorageUnavailable):  # there is nothing better to read now
                return False

        changed = together(has_changed, rejected)
        return {outcome.row for outcome, yes in zip(rejected, changed, strict=True) if yes}

    return find


def _unfinished(parts: Parts, generation: int) -> RemainingWork:
    done = parts.done(generation)
    coverage = parts.coverage(generation)
    return RemainingWork(generation, {chunk: len(rows) for chunk, rows in coverage.items() if chunk not in done})


def _rows_that_may_change(
    plan: Plan, parts: Parts, generations: int, find_changed: FindChanged
) -> dict[int, list[int]]:
    found = {}
    for chunk in range(plan.manifest.chunks):
        latest = parts.latest(chunk, plan.manifest.rows_in(chunk), generations)
        rows = {outcome.row for outcome in latest if may_change(outcome)}
        if rejected := [outcome for outcome in latest if outcome.stamp and outcome.row not in rows]:
            rows |= find_changed(chunk, rejected)
        if rows:
            found[chunk] = sorted(rows)
    return found
