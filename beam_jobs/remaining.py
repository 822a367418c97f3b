"""Which chunks are to do: those without a part, and for `retry_failed` a further generation over what failed,
was missing or was too slow."""

import json
from collections.abc import Mapping
from typing import NamedTuple

from beam_jobs.parts import BrokenPart, Parts
from beam_jobs.plan import Plan
from beam_jobs.results import missing_chunks
from serving.storage.base import join


class RemainingWork(NamedTuple):
    """Work of one generation: rows to do by chunk."""

    generation: int
    rows: Mapping[int, int]

    def share(self, number: int, of: int) -> "RemainingWork":
        """The chunks k with k mod of = number."""
        return self._replace(rows={chunk: rows for chunk, rows in self.rows.items() if chunk % of == number})


def remaining_work(plan: Plan, parts: Parts) -> RemainingWork:
    """Chunks of the run itself that have no part."""
    return RemainingWork(0, {chunk: plan.manifest.rows_in(chunk) for chunk in missing_chunks(plan, parts)})


def remaining_retries(plan: Plan, parts: Parts) -> RemainingWork:
    """Chunks of the newest generation that have no part in it; of a new one over all rows that may change, if there are
    none.

    What a generation covers is written down first, so that every shard and rerun works on the same.
    """
    newest = count_generations(parts)
    if newest:
        rows = _covered(parts, newest)
        done = parts.done(newest)
        if rows.keys() - done:
            return RemainingWork(newest, {chunk: n for chunk, n in rows.items() if chunk not in done})
    again = _rows_that_may_change(plan, parts, newest)
    if again:
        parts.storage.create(_path(parts, newest + 1), json.dumps(again).encode())
        return RemainingWork(newest + 1, _covered(parts, newest + 1))
    return RemainingWork(newest, {})


def count_generations(parts: Parts) -> int:
    """Number of generations after the run itself."""
    generation = 0
    while parts.storage.exists(_path(parts, generation + 1)):
        generation += 1
    return generation


def _rows_that_may_change(plan: Plan, parts: Parts, generations: int) -> dict[int, int]:
    found = {}
    for chunk in range(plan.manifest.chunks):
        latest = parts.latest(chunk, plan.manifest.rows_in(chunk), generations)
        rows = sum(outcome.may_change for outcome in latest)
        if rows:
            found[chunk] = rows
    return found


def _covered(parts: Parts, generation: int) -> dict[int, int]:
    path = _path(parts, generation)
    try:
        return {int(chunk): count for chunk, count in json.loads(parts.storage.read(path)).items()}
    except (ValueError, AttributeError) as error:
        raise BrokenPart(f"{path} is damaged: delete it and run again with `retry_failed`") from error


def _path(parts: Parts, generation: int) -> str:
    return join(parts.folder, f"generation-{generation}.json")
