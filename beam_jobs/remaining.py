"""What is left to do: chunks without a part, and for `retry_failed` the rows whose outcome may change.

`beam_jobs.parts` says what a generation is.
"""

from collections.abc import Mapping
from typing import NamedTuple

from beam_jobs.parts import Parts
from beam_jobs.plan import Plan


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


def missing_chunks(plan: Plan, parts: Parts) -> list[int]:
    """Chunks of the run that have no part, in order."""
    return sorted(set(range(plan.manifest.chunks)) - parts.done(0))


def remaining_work(plan: Plan, parts: Parts) -> RemainingWork:
    """The chunks of the run that have no part."""
    return RemainingWork(0, {chunk: plan.manifest.rows_in(chunk) for chunk in missing_chunks(plan, parts)})


def remaining_retries(plan: Plan, parts: Parts) -> RemainingWork:
    """What the newest generation still has to do; if that is nothing, a new generation of all rows that may change.

    A new generation is written down first, so that every shard and rerun works on the same rows. All chunks of the run
    must have their part.
    """
    newest = parts.generations()
    if newest:
        unfinished = _unfinished(parts, newest)
        if unfinished.rows:
            return unfinished
    coverage = _rows_that_may_change(plan, parts, newest)
    if not coverage:
        return RemainingWork(newest, {})
    parts.add_generation(newest + 1, coverage)
    return _unfinished(parts, newest + 1)


def _unfinished(parts: Parts, generation: int) -> RemainingWork:
    done = parts.done(generation)
    coverage = parts.coverage(generation)
    return RemainingWork(generation, {chunk: rows for chunk, rows in coverage.items() if chunk not in done})


def _rows_that_may_change(plan: Plan, parts: Parts, generations: int) -> dict[int, int]:
    found = {}
    for chunk in range(plan.manifest.chunks):
        latest = parts.latest(chunk, plan.manifest.rows_in(chunk), generations)
        rows = sum(outcome.may_change for outcome in latest)
        if rows:
            found[chunk] = rows
    return found
