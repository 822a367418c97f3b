"""Which chunks are to do: those without a part, and for `--retry-failed` a further generation over what failed."""

import json
from collections.abc import Mapping
from typing import NamedTuple

from beam_jobs.ledger import missing_chunks
from beam_jobs.parts import Parts
from beam_jobs.plan import Plan, RunFolder
from beam_jobs.storage import join


class Todo(NamedTuple):
    """Work of one generation: rows to do by chunk."""

    generation: int
    rows: Mapping[int, int]

    def share(self, number: int, of: int) -> "Todo":
        """The chunks k with k mod of = number."""
        return self._replace(rows={chunk: rows for chunk, rows in self.rows.items() if chunk % of == number})


def first_todo(plan: Plan, parts: Parts) -> Todo:
    """Chunks of the run itself that have no part."""
    return Todo(0, {chunk: plan.manifest.rows_in(chunk) for chunk in missing_chunks(plan, parts)})


def retry_todo(folder: RunFolder, plan: Plan, parts: Parts) -> Todo:
    """Chunks of the newest generation that have no part in it; of a new one over all failed rows, if there are none.

    What a generation covers is written down first, so that every shard and rerun works on the same.
    """
    newest = count_generations(folder)
    if newest:
        rows = _covered(folder, newest)
        done = parts.done(newest)
        if rows.keys() - done:
            return Todo(newest, {chunk: n for chunk, n in rows.items() if chunk not in done})
    failed = _failed_rows(plan, parts, newest)
    if failed:
        folder.storage.create(_path(folder, newest + 1), json.dumps(failed).encode())
        return Todo(newest + 1, _covered(folder, newest + 1))
    return Todo(newest, {})


def count_generations(folder: RunFolder) -> int:
    """Number of generations after the run itself."""
    generation = 0
    while folder.storage.exists(_path(folder, generation + 1)):
        generation += 1
    return generation


def _failed_rows(plan: Plan, parts: Parts, generations: int) -> dict[int, int]:
    failed = {}
    for chunk in range(plan.manifest.chunks):
        latest = parts.latest(chunk, plan.manifest.rows_in(chunk), generations)
        rows = sum(outcome.verdict == "failed" for outcome in latest)
        if rows:
            failed[chunk] = rows
    return failed


def _covered(folder: RunFolder, generation: int) -> dict[int, int]:
    rows = json.loads(folder.storage.read(_path(folder, generation)))
    return {int(chunk): count for chunk, count in rows.items()}


def _path(folder: RunFolder, generation: int) -> str:
    return join(folder.state, f"generation-{generation}.json")
