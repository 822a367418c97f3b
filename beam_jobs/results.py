"""The results of a run: made from its parts, and counted against its manifest.

`listed = predicted + rejected + failed`, or the run is not complete. run.json is written last: where it is, the others
are, too.
"""

import contextlib
import datetime
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from typing import Any, NamedTuple, Self, TypeVar

from beam_jobs import kaggle_submission
from beam_jobs.embeddings import EmbeddingsTable
from beam_jobs.finished import (
    Finished,
    WrittenFile,
    keep_finished,
    last_finished,
    load_finished,
    note_files,
    own_files,
    run_json,
)
from beam_jobs.manifest import Row
from beam_jobs.parts import BrokenPart, Outcome, Parts
from beam_jobs.plan import OutputForms, Plan, RunFolder
from beam_jobs.predict_options import Format
from beam_jobs.prediction_rows import PredictionRows
from beam_jobs.remaining_work import missing_chunks
from beam_jobs.summary import Tally
from beam_jobs.table_files import Column, CsvTable, Hashed, Table, Value, open_table
from serving.errors import FlowImagesError, Resumable
from serving.storage.base import join

PREDICTIONS, REJECTED, FAILED, RUN = "predictions.csv", "rejected.csv", "failed.csv", "run.json"
JSON_LINES, PARQUET, SUBMISSION = "predictions.jsonl", "predictions.parquet", "submission.csv"
EMBEDDINGS = "embeddings.parquet"
RESULTS = (RUN, PREDICTIONS, JSON_LINES, PARQUET, SUBMISSION, EMBEDDINGS, REJECTED, FAILED)
"""All that a run may write, in any form."""
REPORT = "report.html"
"""The page that `beam_jobs.report` makes of them."""
_FAULT_FILES = {"rejected": REJECTED, "failed": FAILED}
FAULT_COLUMNS = [Column(name, str) for name in ("path", "stage", "reason", "message")]


def prediction_files(formats: Sequence[Format]) -> dict[Format, str]:
    """The name of the file of each form. Kaggle's is predictions.csv, too, where no other has that name."""
    names: dict[Format, str] = {
        "csv": PREDICTIONS,
        "jsonl": JSON_LINES,
        "parquet": PARQUET,
        "kaggle": SUBMISSION if "csv" in formats else PREDICTIONS,
    }
    return {one: names[one] for one in formats}


Closed = TypeVar("Closed", Table, EmbeddingsTable)


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


def merge(folder: RunFolder, plan: Plan, options: Mapping[str, Any], forms: OutputForms | None = None) -> Finished:
    """Writes the predictions, rejected.csv, failed.csv and then run.json, whole and in the manifest's order.

    Beside the predictions come their embeddings, where the run keeps them.

    Any process may, at any time: the same parts give the same files, and what run.json says stays as it was first.

    Args:
      folder: of the run.
      plan: of the run.
      options: what run.json says of this process besides the plan's options.
      forms: what the files of predictions look like; None for those that were written last.

    Raises:
      Incomplete: chunks are not done; some of their paths are named.
      BrokenPart: a part was changed.
      FlowImagesError: the account does not balance.
    """
    parts = folder.parts(plan)
    missing = missing_chunks(plan, parts)
    if missing:
        raise Incomplete(_not_done(folder, plan, missing))
    before = last_finished(folder, plan)
    forms = forms or forms_of(plan, before)
    if before and forms != forms_of(plan, before):  # until all are written, those that are there are not complete
        for name in (RUN, REPORT):
            folder.storage.delete(join(folder.output, name))
    rows, tally = PredictionRows(plan, forms), Tally(forms.threshold, plan.model.contract.labels)
    counts: Counter[str] = Counter()
    with contextlib.ExitStack() as stack:
        files = _Files(folder, plan, forms, rows.columns, stack)
        for row, outcome in rows_with_outcomes(folder, plan, parts):
            counts[outcome.verdict] += 1
            values: Sequence[Value] = ()
            if outcome.verdict == "predicted":
                answer, values = rows.answer_and_values(row, outcome)
                tally.predicted(answer, row.label)
            else:
                tally.fault(outcome.verdict, outcome.reason, row.path)
            files.write(row, outcome, values)
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
    written = {
        name: WrittenFile(sha256=file.sha256, stamp=dict(folder.storage.stamp(join(folder.output, name))))
        for name, file in files.by_name.items()
    }
    unwanted = [name for name in RESULTS if name not in (RUN, *written)]
    for name in own_files(folder, plan, unwanted, before):
        folder.storage.delete(join(folder.output, name))
    run = _about(plan, forms, account, options) | {"summary": tally.summary().model_dump(mode="json")}
    finished = keep_finished(folder, plan, Finished(run=run, account=account._asdict(), files=written, forms=forms))
    _write_run(folder, finished)
    return finished


class _Files:
    """The files of rows while they are written, all at once; each appears when the stack is left."""

    def __init__(
        self, folder: RunFolder, plan: Plan, forms: OutputForms, columns: Sequence[Column], stack: contextlib.ExitStack
    ) -> None:
        """Opens them, after noting that they are the run's own."""
        self.by_name: dict[str, Hashed] = {}
        self._folder, self._stack = folder, stack
        self._labels = plan.model.contract.labels
        metadata, names = parquet_metadata(plan, forms), prediction_files(forms.formats)
        note_files(folder, plan, names.values())
        self._predictions = [
            self._opened(open_table(form, self._file(name), columns, metadata))
            for form, name in names.items()
            if form != "kaggle"
        ]
        self._submission = self._csv(names["kaggle"], kaggle_columns(self._labels)) if "kaggle" in names else None
        self._embeddings = None
        if plan.options.embeddings and plan.model.contract.embeddings:
            width = plan.model.contract.embeddings.width
            self._embeddings = self._opened(EmbeddingsTable(self._file(EMBEDDINGS), width, _model_metadata(plan)))
        self._faults = {verdict: self._csv(name, FAULT_COLUMNS) for verdict, name in _FAULT_FILES.items()}

    def write(self, row: Row, outcome: Outcome, values: Sequence[Value]) -> None:
        """Adds an image to the files that it belongs in; `values` is its row of the predictions, if it has one."""
        if outcome.verdict == "predicted":
            for table in self._predictions:
                table.write(values)
            if self._embeddings:
                self._embeddings.write(row.path, outcome.embedding)
        else:
            self._faults[outcome.verdict].write((row.path, outcome.stage, outcome.reason, outcome.message))
        if self._submission:
            identifier = kaggle_submission.image_id(row.path, row.id)
            self._submission.write(kaggle_submission.values(identifier, outcome.scores, self._labels))

    def _file(self, name: str) -> Hashed:
        self.by_name[name] = Hashed(
            self._stack.enter_context(self._folder.storage.replacing(join(self._folder.output, name)))
        )
        return self.by_name[name]

    def _csv(self, name: str, columns: Sequence[Column]) -> Table:
        return self._opened(CsvTable(self._file(name), columns))

    def _opened(self, table: Closed) -> Closed:
        """The table, which is closed before its file appears."""
        self._stack.callback(table.close)
        return table


def forms_of(plan: Plan, finished: Finished | None) -> OutputForms:
    """What the files of predictions look like where nobody wants others: as they were written last."""
    return (finished.forms if finished else None) or plan.first_forms


def find_finished(folder: RunFolder, plan: Plan) -> Finished | None:
    """What was written about a run that is complete, with all its results there; None for any other run."""
    if missing_chunks(plan, folder.parts(plan)):
        return None
    finished = load_finished(folder, plan)
    if finished and all(folder.storage.exists(join(folder.output, name)) for name in (*finished.files, RUN)):
        return finished
    return None


def library_versions() -> dict[str, str]:
    """Versions of the installed libraries that results depend on, by name."""
    found = {}
    for name in ("flow-images", "apache-beam", "grpcio", "numpy", "pillow", "protobuf", "tensorflow"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def rows_with_outcomes(folder: RunFolder, plan: Plan, parts: Parts) -> Iterator[tuple[Row, Outcome]]:
    """Each row of the manifest, in order, with its newest outcome.

    Raises:
      BrokenPart: while iterating, for a part that was changed.
    """
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


def kaggle_columns(labels: Sequence[str]) -> list[Column]:
    """The columns of Kaggle's form."""
    name, *classes = kaggle_submission.columns(labels)
    return [Column(name, str), *(Column(label, float) for label in classes)]


def parquet_metadata(plan: Plan, forms: OutputForms) -> dict[str, str]:
    """What a Parquet file says of its run; nothing that differs between two merges."""
    about = {
        "run": plan.id,
        "started": plan.started.isoformat(timespec="seconds"),
        "model": _model(plan),
        "options": plan.options.model_dump(mode="json") | forms.model_dump(mode="json"),
    }
    return {"flow_images": json.dumps(about, ensure_ascii=False)}


def _model_metadata(plan: Plan) -> dict[str, str]:
    """What the file of embeddings says: those of two models can't be compared."""
    return {"flow_images": json.dumps({"model": _model(plan)}, ensure_ascii=False)}


def _model(plan: Plan) -> dict[str, Any]:
    model = plan.model
    return {"name": model.name, "version": model.version, "fingerprint": model.contract.fingerprint}


def _about(plan: Plan, forms: OutputForms, account: Account, options: Mapping[str, Any]) -> dict[str, Any]:
    """What run.json says."""
    finished = datetime.datetime.now(datetime.UTC)
    run: dict[str, Any] = {
        name: value for name, value in account._asdict().items() if name not in ("labelled", "correct")
    }
    if account.labelled:
        run["accuracy"] = round(account.correct / account.labelled, 6)
    return run | {
        "model": _model(plan),
        "options": plan.options.model_dump(mode="json") | forms.record() | plan.recorded | dict(options),
        "versions": library_versions(),
        "started": plan.started.isoformat(timespec="seconds"),
        "finished": finished.isoformat(timespec="seconds"),
        "seconds": round((finished - plan.started).total_seconds(), 3),
    }


def _write_run(folder: RunFolder, finished: Finished) -> None:
    with folder.storage.replacing(join(folder.output, RUN)) as file:
        file.write(run_json(finished.run))
