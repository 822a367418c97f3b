"""The results of a run: made from its parts, and counted against its manifest.

`listed = predicted + rejected + failed`, or the run is not complete. run.json is written last: where it is, the others
are, too.
"""

import contextlib
import csv
import datetime
import hashlib
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from typing import IO, Any, NamedTuple, Self

from beam_jobs import kaggle_submission
from beam_jobs.embeddings import EMBEDDINGS, EmbeddingsFile
from beam_jobs.finished import Finished, WrittenFile, keep_finished, load_finished, run_json
from beam_jobs.manifest import Row
from beam_jobs.parts import BrokenPart, Outcome, Parts
from beam_jobs.plan import Plan, RunFolder
from beam_jobs.remaining_work import missing_chunks
from beam_jobs.summary import Tally
from serving.client.scores import format_score
from serving.errors import FlowImagesError, Resumable
from serving.storage.base import join

PREDICTIONS, REJECTED, FAILED, RUN = "predictions.csv", "rejected.csv", "failed.csv", "run.json"
RESULTS = (RUN, PREDICTIONS, REJECTED, FAILED)
REPORT = "report.html"
"""The page that `beam_jobs.report` makes of them."""
_FAULT_COLUMNS = ("path", "stage", "reason", "message")


class Incomplete(Resumable):
    """Rows have no outcome yet."""


class Account(NamedTuple):
    """How many images a run listed, and how many of them have each outcome."""

    listed: int
    """Distinct paths of the inputs."""
    predicted: int
    rejected: int
    failed: int
    duplicates: int
    """Repetitions of a path in the inputs."""
    labelled: int
    """Predicted images whose right answer the input has."""
    correct: int
    """How many of those have the right answer as their best class."""
    left_out: Mapping[str, int]
    """Number of files and folders that the listing left out, by reason."""

    @classmethod
    def of(cls, finished: Finished) -> Self:
        """That of a run that is complete."""
        return cls(**finished.account)

    @property
    def balanced(self) -> bool:
        """Has every listed image exactly one outcome?"""
        return self.listed == self.predicted + self.rejected + self.failed


def merge(folder: RunFolder, plan: Plan, options: Mapping[str, Any]) -> Finished:
    """Writes predictions.csv, rejected.csv, failed.csv and then run.json, whole and in the manifest's order.

    Beside the predictions come their embeddings, where the run keeps them.

    Any process may, at any time: the same parts give the same files, and what run.json says stays as it was first.

    Args:
      folder: of the run.
      plan: of the run.
      options: what run.json says of this process besides the plan's options.

    Raises:
      Incomplete: chunks are not done; some of their paths are named.
      BrokenPart: a part was changed.
      FlowImagesError: the account does not balance.
    """
    parts = folder.parts(plan)
    missing = missing_chunks(plan, parts)
    if missing:
        raise Incomplete(_not_done(folder, plan, missing))
    counts: Counter[str] = Counter()
    tally = Tally()
    with contextlib.ExitStack() as stack:
        writers = [
            _Table(stack.enter_context(folder.storage.replacing(join(folder.output, name))), columns)
            for name, columns in zip(RESULTS[1:], _columns(plan), strict=True)
        ]
        predictions, rejected, failed = writers
        embeddings = stack.enter_context(_embeddings_file(folder, plan))
        for row, outcome in _rows(folder, plan, parts):
            counts[outcome.verdict] += 1
            if outcome.verdict == "predicted":
                label, score = _best(plan, outcome)
                tally.predicted(label, score, row.label)
                if embeddings:
                    embeddings.write(row.path, outcome.embedding)
            else:
                tally.fault(outcome.verdict, outcome.reason, row.path)
                fault = (row.path, outcome.stage, outcome.reason, outcome.message)
                (rejected if outcome.verdict == "rejected" else failed).write(fault)
            if outcome.verdict == "predicted" or plan.options.format == "kaggle":
                predictions.write(_prediction(plan, row, outcome))
    account = Account(
        plan.manifest.listed,
        counts["predicted"],
        counts["rejected"],
        counts["failed"],
        plan.manifest.duplicates,
        tally.labelled,
        tally.correct,
        plan.left_out,
    )
    if not account.balanced:
        raise FlowImagesError(f"the account does not balance: {account}; the parts in {parts.folder} were changed")
    digests = dict(zip(RESULTS[1:], (writer.sha256 for writer in writers), strict=True))
    if embeddings:
        digests[EMBEDDINGS] = embeddings.sha256
    files = {
        name: WrittenFile(sha256=digest, stamp=dict(folder.storage.stamp(join(folder.output, name))))
        for name, digest in digests.items()
    }
    run = _about(plan, account, options) | {"summary": tally.summary().model_dump(mode="json")}
    finished = keep_finished(folder, plan, Finished(run=run, account=account._asdict(), files=files))
    _write_run(folder, finished)
    return finished


def find_finished(folder: RunFolder, plan: Plan) -> Finished | None:
    """What was written about a run that is complete, with all its results there; None for any other run."""
    if missing_chunks(plan, folder.parts(plan)):
        return None
    names = (*RESULTS, EMBEDDINGS) if plan.options.embeddings else RESULTS
    if not all(folder.storage.exists(join(folder.output, name)) for name in names):
        return None
    return load_finished(folder, plan)


@contextlib.contextmanager
def _embeddings_file(folder: RunFolder, plan: Plan) -> Iterator[EmbeddingsFile | None]:
    """The file that embeddings are written to while the block runs; None where the run keeps none."""
    known = plan.model.contract.embeddings
    if not (plan.options.embeddings and known):
        yield None
        return
    path = join(folder.output, EMBEDDINGS)
    with folder.storage.replacing(path) as file, EmbeddingsFile(file, known.width) as embeddings:
        yield embeddings


def library_versions() -> dict[str, str]:
    """Versions of the installed libraries that results depend on, by name."""
    found = {}
    for name in ("flow-images", "apache-beam", "grpcio", "numpy", "pillow", "protobuf", "tensorflow"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _rows(folder: RunFolder, plan: Plan, parts: Parts) -> Iterator[tuple[Row, Outcome]]:
    generations = parts.generations()
    for chunk in range(plan.manifest.chunks):
        rows = folder.read_chunk(plan, chunk)
        try:
            outcomes = parts.latest(chunk, len(rows), generations)
        except BrokenPart as error:
            raise BrokenPart(f"{error}. Not accounted for: {_names(rows)}") from error
        yield from zip(rows, outcomes, strict=True)


def _names(rows: Sequence[Row]) -> str:
    more = f" and {len(rows) - _NAMED} more" if len(rows) > _NAMED else ""
    return ", ".join(row.path for row in rows[:_NAMED]) + more


_NAMED = 20
"""Paths that a message names at most."""


def _not_done(folder: RunFolder, plan: Plan, missing: Sequence[int]) -> str:
    first = folder.read_chunk(plan, missing[0])
    rows = sum(plan.manifest.rows_in(chunk) for chunk in missing)
    names = ", ".join(row.path for row in first[:3])
    return f"{rows:,} of {plan.manifest.listed:,} images have no outcome yet ({names}, …): run the same command again"


def _columns(plan: Plan) -> tuple[Sequence[str], Sequence[str], Sequence[str]]:
    return _prediction_columns(plan), _FAULT_COLUMNS, _FAULT_COLUMNS


def _prediction_columns(plan: Plan) -> list[str]:
    labels = plan.model.contract.labels
    if plan.options.format == "kaggle":
        return kaggle_submission.columns(labels)
    ranks = ["", *(f"_{k}" for k in range(2, min(plan.options.top_k, len(labels)) + 1))]
    columns = ["path", *(name + rank for rank in ranks for name in ("label", "score"))]
    return columns + ["id"] * plan.manifest.has_ids + ["true_label"] * plan.manifest.has_labels


def _prediction(plan: Plan, row: Row, outcome: Outcome) -> list[str]:
    labels = plan.model.contract.labels
    if plan.options.format == "kaggle":
        return kaggle_submission.values(kaggle_submission.image_id(row.path, row.id), outcome.scores, labels)
    fields = [row.path]
    for index, score in zip(outcome.classes, outcome.scores, strict=True):
        fields += [labels[index], format_score(score)]
    return fields + [row.id or ""] * plan.manifest.has_ids + [row.label or ""] * plan.manifest.has_labels


def _best(plan: Plan, outcome: Outcome) -> tuple[str, float]:
    """The best label and its score."""
    score, place = max(zip(outcome.scores, (-index for index in outcome.classes), strict=True))
    return plan.model.contract.labels[-place], score


class _Table:
    """A CSV as RFC 4180 has it, in UTF-8; no value is altered."""

    def __init__(self, file: IO[bytes], columns: Sequence[str]) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self._text = io.StringIO(newline="")
        self._writer = csv.writer(self._text)
        self.write(columns)

    @property
    def sha256(self) -> str:
        """The SHA-256 of all that was written."""
        return self._digest.hexdigest()

    def write(self, fields: Sequence[str]) -> None:
        self._writer.writerow(fields)
        data = self._text.getvalue().encode("utf-8")
        self._file.write(data)
        self._digest.update(data)
        self._text.seek(0)
        self._text.truncate()


def _about(plan: Plan, account: Account, options: Mapping[str, Any]) -> dict[str, Any]:
    """What run.json says."""
    finished = datetime.datetime.now(datetime.UTC)
    run: dict[str, Any] = {
        name: value for name, value in account._asdict().items() if name not in ("labelled", "correct")
    }
    if account.labelled:
        run["accuracy"] = round(account.correct / account.labelled, 6)
    return run | {
        "model": {
            "name": plan.model.name,
            "version": plan.model.version,
            "fingerprint": plan.model.contract.fingerprint,
        },
        "options": plan.options.model_dump(mode="json") | plan.recorded | dict(options),
        "versions": library_versions(),
        "started": plan.started.isoformat(timespec="seconds"),
        "finished": finished.isoformat(timespec="seconds"),
        "seconds": round((finished - plan.started).total_seconds(), 3),
    }


def _write_run(folder: RunFolder, finished: Finished) -> None:
    with folder.storage.replacing(join(folder.output, RUN)) as file:
        file.write(run_json(finished.run))
