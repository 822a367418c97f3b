"""Recounts a complete run: every row of every file, against each other, run.json, the manifest and the parts."""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import pydantic

from beam_jobs import stop_request
from beam_jobs.check.checked_file import CheckedFile, Finding, Problem
from beam_jobs.check.row_rules import RowRules, columns_of, kaggle_problem
from beam_jobs.check.rows import Wrong, column_names, metadata_of_parquet, read_embeddings, read_rows
from beam_jobs.complete_run import CompleteRun
from beam_jobs.finished import load_finished, run_json, sha256_of
from beam_jobs.kaggle_submission import image_id, values
from beam_jobs.parts import BrokenPart
from beam_jobs.plan import RunFolder
from beam_jobs.predict_options import Format
from beam_jobs.prediction_rows import Answer, PredictionRows, models_best, written
from beam_jobs.results import (
    EMBEDDINGS,
    FAILED,
    FAULT_COLUMNS,
    PARQUET,
    REJECTED,
    RESULTS,
    RUN,
    kaggle_columns,
    parquet_metadata,
    prediction_files,
    rows_with_outcomes,
)
from beam_jobs.summary import Summary, Tally
from beam_jobs.table_files import Column, Value
from serving.errors import UsageError
from serving.storage.base import join, output_errors
from serving.storage.storage_options import StorageOptions
from serving.storage.stores import Stores

_STAGES = {"list", "read", "decode", "predict"}


class Checked(NamedTuple):
    """What was found."""

    listed: int
    predicted: int
    rejected: int
    failed: int
    files: Sequence[str]
    """Names of the files that were read."""
    findings: Sequence[Finding]
    """The first thing that is wrong with each file; none if all is right."""
    unchecked: Sequence[str]
    """What could not be checked, in words."""


def check_run(
    output: str, storage: StorageOptions | None = None, *, advance: Callable[[int], object] = lambda images: None
) -> Checked:
    """Reads all files of a run's results, and changes nothing.

    Args:
      output: the run's folder, which may be a copy without `_state`.
      storage: how stores are reached; None for what the environment says.
      advance: is told again and again how many images were checked.

    Raises:
      UsageError: there is no run in the folder.
      Incomplete: the run is not complete.
    """
    with stop_request.run_in_progress(), output_errors(output):
        folder = RunFolder(Stores(storage, stop=stop_request.STOP)(output), output)
        try:
            run = CompleteRun(folder)
        except UsageError as error:
            if not folder.storage.exists(join(output, RUN)):
                raise
            return Checked(0, 0, 0, 0, [RUN], [Finding(RUN, None, str(error))], [])
        return _Check(run, advance).check()


class _Check:
    def __init__(self, run: CompleteRun, advance: Callable[[int], object]) -> None:
        self._run = run
        self._advance = advance
        self._storage, self._output = run.folder.storage, run.folder.output
        self._finished = load_finished(run.folder, run.plan) if run.plan else None
        self._forms = (self._finished and self._finished.forms) or run.facts.forms
        self._findings: list[Finding] = []
        self._unchecked: list[str] = []
        self._counts: Counter[str] = Counter()
        contract = run.plan.model.contract if run.plan else None
        self._tally: Tally | None = Tally(self._forms.threshold, contract.labels if contract else None)
        self._rules = RowRules(self._forms.threshold, contract)
        names = prediction_files(self._forms.formats)
        self._faults = {
            "rejected": self._file(REJECTED, "csv", FAULT_COLUMNS, _fault_problem),
            "failed": self._file(FAILED, "csv", FAULT_COLUMNS, _fault_problem),
        }
        self._predictions = [
            self._file(name, form, self._columns(name, form), self._rules.problem)
            for form, name in names.items()
            if form != "kaggle"
        ]
        self._submission = self._kaggle_file(names["kaggle"]) if "kaggle" in names else None
        self._embeddings = self._embeddings_file()

    @property
    def _files(self) -> list[CheckedFile]:
        found = [*self._predictions, *self._faults.values(), self._submission, self._embeddings]
        return [file for file in found if file]

    def check(self) -> Checked:
        """Reads everything."""
        run = self._run
        if run.plan:
            self._against_parts()
        else:
            self._unchecked.append("the list of the images, their ids and labels, and the model's labels")
            self._against_each_other()
        self._findings += [file.finding for file in self._files if file.finding]
        self._check_files()
        self._check_account()
        self._check_finished()
        facts = run.facts
        names = [file.name for file in self._files]
        return Checked(
            facts.listed, facts.predicted, facts.rejected, facts.failed, [*names, RUN], self._findings, self._unchecked
        )

    def _file(
        self,
        name: str,
        form: Format,
        columns: Sequence[Column],
        problem: Problem,
        names: Sequence[str] | None = None,
    ) -> CheckedFile:
        """`names` are those to tell the columns by, where two have the same."""
        rows = read_rows(self._storage, join(self._output, name), form, columns)
        return CheckedFile(
            name,
            rows,
            names or [column.name for column in columns],
            problem,
            is_csv=form in ("csv", "kaggle"),
            is_ordered=form != "kaggle",
        )

    def _columns(self, name: str, form: Format) -> list[Column]:
        if self._run.plan:
            return PredictionRows(self._run.plan, self._forms).columns
        told = self._run.facts.options.get("columns")
        facts = [str(name) for name in told] if isinstance(told, list) else []
        return columns_of(self._names(name, form), self._forms.top_k, self._forms.threshold, facts)

    def _names(self, name: str, form: Format) -> list[str]:
        """The columns that a file has; none where it can't be read, which its first row tells."""
        try:
            return column_names(self._storage, join(self._output, name), form)
        except Wrong:
            return []

    def _kaggle_file(self, name: str) -> CheckedFile:
        plan = self._run.plan
        labels = plan.model.contract.labels if plan else self._names(name, "kaggle")[1:]

        def problem(record: Mapping[str, Value]) -> str | None:
            return kaggle_problem(list(record.values()))

        return self._file(name, "kaggle", kaggle_columns(labels), problem, ["", *labels])  # a label may be `id`

    def _embeddings_file(self) -> CheckedFile | None:
        """The file of embeddings, if the run keeps them."""
        if not self._run.facts.options.get("embeddings"):
            return None
        contract = self._run.plan.model.contract if self._run.plan else None
        width = contract.embeddings.width if contract and contract.embeddings else None
        rows = read_embeddings(self._storage, join(self._output, EMBEDDINGS), width)
        return CheckedFile(EMBEDDINGS, rows, ["path", "embedding"])

    def _against_parts(self) -> None:
        """Each row must be what its part and the manifest say, in their order."""
        run, plan = self._run, self._run.plan
        assert plan
        rows, labels = PredictionRows(plan, self._forms), plan.model.contract.labels
        parts = run.folder.parts(plan)
        source = "its part"
        try:
            for row, outcome in rows_with_outcomes(run.folder, plan, parts):
                self._count(outcome.verdict)
                if outcome.verdict == "predicted":
                    answer, expected = rows.answer_and_values(row, outcome)
                    self._tell(answer, row.label)
                    for file in self._predictions:
                        file.expect(expected, source)
                    if self._embeddings:
                        self._embeddings.expect([row.path, outcome.embedding], source)
                else:
                    self._tell_fault(outcome.verdict, outcome.reason, row.path)
                    fault = (row.path, outcome.stage, outcome.reason, outcome.message)
                    self._faults[outcome.verdict].expect(fault, source)
                if self._submission:
                    scores = values(image_id(row.path, row.id), outcome.scores, labels)
                    self._submission.expect([scores[0], *map(_as_written, scores[1:])], source)
        except (BrokenPart, FileNotFoundError) as error:
            self._findings.append(Finding(parts.folder, None, str(error)))
            return
        for file in self._files:
            file.expect_end("the list of the images")

    def _against_each_other(self) -> None:
        """The same images in every form of the predictions, and each image in one file; in the order of paths."""
        first = self._predictions[0] if self._predictions else None
        if first is None:
            self._tally = None
            self._unchecked.append("which images are in Kaggle's form, that has no paths; the summary in run.json")
            self._drain()
            return
        sources: dict[str, CheckedFile] = {"predicted": first, **self._faults}
        while heads := {verdict: head for verdict, file in sources.items() if (head := file.head())}:
            if any(file.finding for file in sources.values()):
                break
            path = min(str(head.values[0]) for head in heads.values())
            verdict, *others = [one for one, head in heads.items() if head.values[0] == path]
            row = sources[verdict].take()
            assert row
            if others:
                sources[others[0]].note(heads[others[0]].number, f"{path} is in {sources[verdict].name}, too")
            self._count(verdict)
            record = sources[verdict].record(row)
            if verdict == "predicted":
                for other in self._predictions[1:]:
                    other.expect(row.values, first.name, takes_empty=True)
                if self._embeddings:
                    self._embeddings.expect([path], first.name)
            self._tell_record(verdict, record)
            if self._submission:
                self._expect_submission(verdict, record)
        self._drain()

    def _drain(self) -> None:
        """Reads what is left of each file, which must be right by itself; nothing is, if the first ones were right."""
        sources = [*self._predictions[:1], *self._faults.values()]
        whole = bool(self._predictions) and not any(file.finding for file in sources)
        for file in self._files:
            if whole:
                file.expect_end("the other files")
            while file.take():
                pass
        if not self._predictions:
            for verdict, file in self._faults.items():
                self._counts[verdict] = file.count
            listed = self._submission.count if self._submission else 0
            self._counts["predicted"] = listed - self._counts["rejected"] - self._counts["failed"]

    def _expect_submission(self, verdict: str, record: Mapping[str, Value]) -> None:
        file = self._submission
        row = file.take() if file else None
        if file is None or file.finding:
            return
        if row is None:
            file.note(None, f"it ends before {record['path']}")
            return
        scores = file.record(row)
        given = str(record["id"]) if record.get("id") else None
        if given is not None or "id" not in record:  # which ids faults had is not known
            expected = image_id(str(record["path"]), given)
            if verdict == "predicted" and row.values[0] != expected:
                file.note(row.number, f"id is {row.values[0]!r}, where {expected!r} belongs")
        numbers = [value for value in row.values[1:] if isinstance(value, float)]
        if verdict != "predicted":
            if len(set(numbers)) > 1:
                file.note(row.number, f"it has scores, and {record['path']} is {verdict}")
            return
        label, score = models_best(record)
        if scores.get(str(label)) != score:
            file.note(row.number, f"the score of {label!r} is {scores.get(str(label))}, and {score} elsewhere")

    def _count(self, verdict: str) -> None:
        self._counts[verdict] += 1
        total = self._counts.total()
        if total % 1000 == 0:
            self._advance(total)
            stop_request.raise_if_stopped()

    def _tell_record(self, verdict: str, record: Mapping[str, Value]) -> None:
        if verdict != "predicted":
            self._tell_fault(verdict, str(record["reason"]), str(record["path"]))
            return
        label, score = models_best(record)
        number = float(score or 0.0)
        answer = Answer(str(record["label"]), str(label), number, number < self._forms.threshold)
        self._tell(answer, str(record["true_label"]) if record.get("true_label") else None)

    def _tell(self, answer: Answer, true_label: str | None) -> None:
        if self._tally:
            self._tally.predicted(answer, true_label)

    def _tell_fault(self, verdict: str, reason: str, path: str) -> None:
        if self._tally:
            self._tally.fault(verdict, reason, path)

    def _check_files(self) -> None:
        """The files that are there are those of the run's forms."""
        names = {file.name for file in self._files} | {RUN}
        for name in RESULTS:
            if name not in names and self._storage.exists(join(self._output, name)):
                self._findings.append(Finding(name, None, "the run has no file of this form"))
        for name in (PARQUET, EMBEDDINGS):
            if name in names and not any(one.file == name for one in self._findings):
                self._check_parquet(name)

    def _check_parquet(self, name: str) -> None:
        """A Parquet file tells of this run and its model."""
        try:
            told = metadata_of_parquet(self._storage, join(self._output, name))
        except Wrong as wrong:
            self._findings.append(Finding(name, wrong.args[0], str(wrong.args[1])))
            return
        run = self._run
        expected = None
        if run.plan and name == PARQUET:
            expected = json.loads(parquet_metadata(run.plan, self._forms)["flow_images"])
        model = run.facts.model.model_dump()
        is_ours = isinstance(told, dict) and told.get("model") == model
        if not is_ours or (expected is not None and told != expected):
            self._findings.append(Finding(name, None, "its metadata is of another run"))

    def _check_account(self) -> None:
        """The counts, the accuracy and the summary of run.json are those of the rows, if all of these are right."""
        facts, found = self._run.facts, self._counts
        if facts.listed != facts.predicted + facts.rejected + facts.failed:
            self._wrong_run(f"listed is {facts.listed}, and the sum of predicted, rejected and failed another")
        if self._findings:
            return
        for verdict in ("predicted", "rejected", "failed"):
            if getattr(facts, verdict) != found[verdict]:
                self._wrong_run(f"{verdict} is {getattr(facts, verdict)}, and there are {found[verdict]}")
        if plan := self._run.plan:
            model = (plan.model.name, plan.model.version, plan.model.contract.fingerprint)
            if (facts.model.name, facts.model.version, facts.model.fingerprint) != model:
                self._wrong_run("model is not that of the run's plan")
            if (facts.duplicates, facts.left_out) != (plan.manifest.duplicates, plan.left_out):
                self._wrong_run("duplicates and left_out are not those of the list")
        told = self._told()
        if self._tally:
            accuracy = round(self._tally.correct / self._tally.labelled, 6) if self._tally.labelled else None
            if told.get("accuracy") != accuracy:
                self._wrong_run(f"accuracy is {told.get('accuracy')}, and counted again {accuracy}")
            self._check_summary(told.get("summary"), self._tally.summary())

    def _check_summary(self, told: Any, counted: Summary) -> None:
        """The summary is what the rows say; `told` is None in a run of the first releases."""
        if told is None:
            return
        try:
            found = Summary.model_validate(told)
        except pydantic.ValidationError as error:
            self._wrong_run(f"summary can't be read: {error.errors()[0]['msg']}")
            return
        # A run of an earlier release tells less, and only the plan tells which labels the model has.
        names = set(told) - (set() if self._run.plan else {"not_in_model"})
        if differing := [name for name in sorted(names) if getattr(found, name, None) != getattr(counted, name, None)]:
            self._wrong_run(f"summary is not what the rows say: {', '.join(differing)}")

    def _check_finished(self) -> None:
        """Each file has the bytes that were written, as far as that was kept."""
        finished = self._finished
        if finished is None:
            self._unchecked.append("whether files have the bytes that were written")
            return
        known = {one.file for one in self._findings}
        for name, kept in finished.files.items():
            path = join(self._output, name)
            if name in known or not self._storage.exists(path):
                continue
            if sha256_of(self._storage, path) != kept.sha256:
                self._findings.append(Finding(name, None, "it has other bytes than were written"))
        if RUN not in known and self._storage.read(join(self._output, RUN)) != run_json(finished.run):
            self._wrong_run("it has other bytes than were written")

    def _told(self) -> dict[str, Any]:
        return pydantic.TypeAdapter(dict[str, Any]).validate_json(self._storage.read(join(self._output, RUN)))

    def _wrong_run(self, what: str) -> None:
        self._findings.append(Finding(RUN, None, what))


def _fault_problem(record: Mapping[str, Value]) -> str | None:
    if not record["path"]:
        return "it has no path"
    if record["stage"] not in _STAGES:
        return f"stage is {record['stage']!r}"
    if not record["reason"] or len(str(record["reason"]).split()) != 1:
        return f"reason is {record['reason']!r}, and no word"
    return None


def _as_written(score: Value) -> Value:
    return written(score) if isinstance(score, float) else score
