"""A whole training: images are checked and split, a model is trained, measured, judged, published. No terminal here."""

import contextlib
import csv
import dataclasses
import io
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from serving.console.terminal import printable
from serving.errors import FlowImagesError, NotBlessed, UsageError
from serving.model_store.publish import Publication, VersionExists, check_publication
from serving.model_store.versions import REPORT_FILE, TRAINING_FILE
from serving.process.temporary_files import check_temporary_files, explaining_full_temporary_files
from serving.process.tensorflow_import import import_tensorflow
from serving.storage.base import join, scheme, shown
from serving.storage.disk import check_can_write
from serving.storage.stores import Stores
from trainer.hub.handle import check_hub_handle
from trainer.image_sources import check_sources
from trainer.images.bucket_copies import BucketCopies
from trainer.progress import Progress, reporting
from trainer.tensorflow_errors import explaining
from trainer.train_options import TrainJob, TrainOptions

if TYPE_CHECKING:
    from trainer.evaluation.evaluation import Evaluation, Suspect
    from trainer.evaluation.gate_outcome import Gate
    from trainer.evaluation.gates import InService
    from trainer.export import Exported
    from trainer.hub.module import HubModule
    from trainer.images.check import CheckedImages
    from trainer.images.split import Split
    from trainer.lineage import TrainingRecord
    from trainer.report.page import Report
    from trainer.train import Array, Trained
    from trainer.work_folder import WorkFolder

LABEL_CHECK_FILE = "label_check.csv"
_SAME = 0.02
"""Largest mean change of an image's scores between the model in memory and the one that was published."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainedModel:
    """A model that was trained, measured and published."""

    path: str
    """STORE/NAME/VERSION."""
    version: int
    report: str
    """Path of report.html."""
    labels: tuple[str, ...]
    """Class names; position i names output i."""
    evaluation: "Evaluation"
    """All that was measured on the test images, by the exported model in a server process."""
    gates: "tuple[Gate, ...]"
    """The gates that were asked for; all passed."""
    suspects: "tuple[Suspect, ...]"
    """Training images whose label is likely wrong, the likeliest first."""
    training_images: int
    validation_images: int
    undetected: tuple[str, ...]
    """Wrong preprocessings that the model's golden images would not tell from the right one."""

    @property
    def accuracy(self) -> float:
        """Share of the test images that were right, 0..1; none of them was trained on, or chose anything."""
        return self.evaluation.accuracy.value


@dataclasses.dataclass(frozen=True)
class _Data:
    """The images of a training."""

    checked: "CheckedImages"
    split: "Split"
    groups: dict[str, str]


@dataclasses.dataclass(frozen=True)
class _Measured:
    """What is known of a model before it is published."""

    evaluation: "Evaluation"
    gates: "list[Gate]"
    suspects: "list[Suspect]"


class AlreadyPublished(VersionExists):
    """The version that is there was made of the same images with the same options, as by an earlier try."""


class TrainingRun:
    """One training. A context manager that removes temporary files."""

    def __init__(self, job: TrainJob, progress: Progress | None = None) -> None:
        """Checks the options, before anything is read or TensorFlow is loaded.

        Args:
          job: all that the user decides.
          progress: is told how it goes on.

        Raises:
          UsageError: they contradict each other, or can't be used.
        """
        check_sources(job)
        _check_together(job)
        check_publication(job.model_store, job.name)
        check_hub_handle(job.hub_model)
        _check_files(job)
        self._job = job
        self._progress = progress or Progress()
        self._stores = Stores()
        self._copies = BucketCopies(self._stores, self._progress.note)
        self._target: Publication | None = None
        self._work: WorkFolder | None = None
        self._seconds: dict[str, float] = {}
        self._evaluation: Evaluation | None = None
        self._written: TrainingRecord | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._copies.remove()
        if self._target is not None:
            self._target.discard()
        if self._work is not None:
            self._work.close()

    @property
    def published(self) -> str | None:
        """STORE/NAME/VERSION, once it is published."""
        return self._target.path if self._target is not None and self._target.is_published else None

    @property
    def evaluation(self) -> "Evaluation | None":
        """What the exported model was measured to do, once it was, published or not."""
        return self._evaluation

    @property
    def record(self) -> "TrainingRecord | None":
        """What training.json says of the model, once it was measured, published or not."""
        return self._written

    @property
    def is_kept(self) -> bool:
        """Is there work with which the same command continues?"""
        return self._work is not None

    def discard(self) -> None:
        """Removes what is written and not published; may be called from any thread. Features and checkpoints stay."""
        self._copies.remove()
        if self._target is not None:
            self._target.discard()

    def run(self) -> TrainedModel:
        """Reads, trains, measures, judges and publishes.

        Raises:
          AlreadyPublished: the version is there, and made of the same.
          UsageError: wrong input; nothing was published.
          NotBlessed: the model failed a gate; its report was written, and nothing was published.
          Resumable: something that the training needs is away or full.
          FlowImagesError: it failed; nothing was published.
        """
        with self._copies.original_names(), explaining_full_temporary_files():
            check_temporary_files()
            with self._timed("data"):
                data = self._read_data()
            self._target = self._find_target(data)
            with self._timed("loading"):
                module = self._load_module()
            trained = self._train(data, module)
            self._seconds |= trained.seconds
            return self._publish(data, module, trained)

    def _read_data(self) -> _Data:
        from trainer.evaluation.gates import check_slices
        from trainer.evaluation.groups import read_groups
        from trainer.image_sources import read_sources
        from trainer.images.labelled_images import class_names
        from trainer.images.split import split_images

        job = self._job
        checked = read_sources(job, self._copies, self._progress)
        if checked.card.rotated and job.orientation == "ignore":
            self._note(
                f"{len(checked.card.rotated):,} images have an EXIF tag that turns them: with `orientation` exif they "
                "are turned, here and in every prediction"
            )
        split = split_images(
            checked.images, checked.digests, checked.near_duplicates, validation_share=job.validation_share,
            test_share=job.test_share, seed=job.seed, note=self._named,
        )  # fmt: skip
        counts = " and ".join(f"{len(part):,} {name}" for name, part in split._asdict().items())
        self._note(f"{len(class_names(split.training)):,} classes: {counts} images".replace(" and ", ", ", 1))
        check_slices(split.test, job)
        groups = read_groups(self._copies.file("groups", job.groups), class_names(split.training)) if job.groups else {}
        return _Data(checked, split, groups)

    def _find_target(self, data: _Data) -> Publication:
        job = self._job
        store = self._stores.writable(job.model_store)
        with reporting(f"waiting for {printable(job.model_store)}", self._note):
            try:
                target = Publication(job.model_store, job.name, job.version, store)
            except VersionExists as there:
                self._compare_inputs(join(job.model_store, job.name, str(job.version)), data)
                raise VersionExists(f"{there}. It was not made of these images with these options") from there
            higher = target.higher()
        if higher is not None:
            self._note(
                f"WARNING: `version` {job.version} is below version {higher} in {printable(target.model_path)}: "
                "servers, and predictions that bring their own, take the highest unless they are told a version"
            )
        return target

    def _compare_inputs(self, version: str, data: _Data) -> None:
        """Raises AlreadyPublished if a version was made of the images and options of this training."""
        from trainer.lineage import inputs
        from trainer.published_models import find_version

        try:
            record = find_version(version, self._stores(version)).record
        except UsageError:  # it has no model
            return
        split_digest = data.split.digest(data.checked.digests)
        if record is not None and record.inputs == inputs(self._job, data.checked.digest, split_digest):
            raise AlreadyPublished(
                f"{printable(version)} exists already, made of the same images with the same options; nothing was "
                "trained"
            )

    def _load_module(self) -> "HubModule":
        self._progress.begin("loading the hub module")
        import_tensorflow()
        from trainer.hub.module import load_module
        from trainer.strategy import training_strategy

        job = self._job
        with training_strategy().scope():
            return load_module(
                job.hub_model, trainable=job.fine_tune, image_size=job.image_size, progress=self._progress
            )

    def _train(self, data: _Data, module: "HubModule") -> "Trained":
        from trainer.train import train
        from trainer.work_folder import WorkFolder

        options = self._job.part(TrainOptions)
        digests = data.checked.digests
        rows = [(digests[image.path], image.label) for part in data.split for image in part]
        key = [rows, data.split.digest(digests), module.digest, module.image_size, dataclasses.asdict(options)]
        self._work = WorkFolder.open(self._job.work_folder, key)
        progress = self._progress
        if self._job.tensorboard:
            from trainer.tensorboard import TensorBoardProgress

            progress = TensorBoardProgress(self._job.tensorboard, progress)
        return train(data.split, options, module, control=self._job.min_lift is not None, work=self._work,
                     progress=progress)  # fmt: skip

    def _publish(self, data: _Data, module: "HubModule", trained: "Trained") -> TrainedModel:
        """Exports the model aside, measures it there, and publishes it if it passes all gates."""
        from trainer.evaluation.calibration import fit_temperature, with_temperature
        from trainer.evaluation.metrics import targets_of
        from trainer.evaluation.threshold import choose_threshold
        from trainer.export import Certainty, exporting
        from trainer.golden import undetected_errors
        from trainer.model import with_temperature as with_temperature_in

        assert self._target is not None
        job, split = self._job, data.split
        targets = targets_of(split.validation, trained.labels)
        temperature = fit_temperature(trained.validation_probabilities, targets)
        scaled = with_temperature(trained.validation_probabilities, temperature)
        threshold = choose_threshold(scaled, targets, job.target_precision)
        if threshold is None:
            self._note(
                f"the model carries no threshold: with {len(targets):,} validation images no score promises that "
                f"{job.target_precision:.0%} of the answers are right. More images may give it one, or a lower "
                "`target_precision`"
            )
        certainty = Certainty(threshold, job.target_precision, data.groups)
        photos = [image.path for image in split.validation or split.training] if job.golden == "photos" else None
        self._progress.begin("exporting the model")
        model = with_temperature_in(trained.model, temperature)
        with contextlib.ExitStack() as stack:
            with self._timed("exporting"):
                exported = stack.enter_context(
                    exporting(model, trained.labels, trained.preprocessing, photos, self._target, certainty)
                )
            expected = with_temperature(trained.test_probabilities, temperature)
            measured = self._measure(data, trained, exported, expected, temperature, threshold)
            self._evaluation = measured.evaluation
            self._written = record = self._record(data, module, trained, measured, temperature, threshold)
            report = self._report(data, trained, measured, record)
            files = self._files(data, report, record, measured)
            if not all(gate.passed for gate in measured.gates):
                raise self._not_blessed(measured, files)
            for name, text in files.items():
                exported.add(name, text, *([""] if name == REPORT_FILE else []))
        if job.report:
            self._write(Path(job.report), files)
        if self._work is not None:
            self._work.remove()
        contract = exported.contract
        return TrainedModel(
            path=self._target.path,
            version=self._target.number,
            report=f"{self._target.path}/{REPORT_FILE}",
            labels=tuple(trained.labels),
            evaluation=measured.evaluation,
            gates=tuple(measured.gates),
            suspects=tuple(one for one in measured.suspects if one.is_likely),
            training_images=len(split.training),
            validation_images=len(split.validation),
            undetected=tuple(undetected_errors(contract.golden) if contract.golden else ()),
        )

    def _measure(
        self,
        data: _Data,
        trained: "Trained",
        exported: "Exported",
        expected: "Array",
        temperature: float,
        threshold: float | None,
    ) -> _Measured:
        """Asks the written model, in a server process of its own, about the test images."""
        from serving.client.client_options import ConnectionOptions
        from trainer.evaluation.answers import ask
        from trainer.evaluation.gates import judge
        from trainer.evaluation.metrics import measure
        from trainer.evaluation.mislabels import rank_labels
        from trainer.lineage import renamed

        job, test = self._job, data.split.test
        self._progress.begin(f"asking the exported model about {len(test):,} test images", len(test))
        with self._timed("measuring"), reporting("measuring the exported model", self._note):
            options = ConnectionOptions(model=exported.folder, model_name=job.name)
            answers = ask(options, [image.path for image in test], progress=self._progress).probabilities
            _check_same(answers, expected)
            named = renamed(test, self._copies.original)
            evaluation = measure(
                answers, named, trained.labels, temperature=temperature, threshold=threshold,
                target_precision=job.target_precision, seed=job.seed,
            )  # fmt: skip
        self._tell_of_chance(evaluation)
        in_service = self._compare(data, answers, trained.labels) if job.max_regression is not None else None
        gates = judge(evaluation, job, control_accuracy=trained.control_accuracy, in_service=in_service)
        suspects: list[Suspect] = []
        if trained.out_of_fold is not None:
            suspects = rank_labels(
                renamed(data.split.training, self._copies.original), trained.out_of_fold, trained.labels
            )
        return _Measured(evaluation, gates, suspects)

    def _tell_of_chance(self, evaluation: "Evaluation") -> None:
        """Warns of a model that has learnt nothing, such as one whose loss grew without bounds."""
        commonest = max(evaluation.classes, key=lambda row: row.images)
        share, even = commonest.images / evaluation.images, math.log(len(evaluation.classes))
        accuracy, loss = evaluation.accuracy.value, evaluation.log_loss.value
        if accuracy <= share or loss >= even:
            self._note(
                f"WARNING: the model is no better than chance: accuracy {accuracy:.3f}, and {share:.3f} if each answer "
                f"were {commonest.label!r}; log loss {loss:,.3f}, and {even:.3f} if each class were as likely. Look at "
                "the labels, `value_range` and `learning_rate`; `min_lift` would refuse it"
            )

    def _compare(self, data: _Data, answers: "Array", labels: Sequence[str]) -> "InService | None":
        from trainer.evaluation.in_service import compare

        assert self._target is not None
        with self._timed("comparing"), reporting("asking the version in service", self._note):
            return compare(
                self._target.model_path, data.split.test, answers, labels, data.checked.digests,
                original=self._copies.original, stores=self._stores, progress=self._progress,
            )  # fmt: skip

    def _record(
        self,
        data: _Data,
        module: "HubModule",
        trained: "Trained",
        measured: _Measured,
        temperature: float,
        threshold: float | None,
    ) -> "TrainingRecord":
        from trainer.lineage import GateRecord, TrainingRecord, origin

        found = measured.evaluation
        return TrainingRecord(
            **origin("train", self._job),
            seed=self._job.seed,
            data_digest=data.checked.digest,
            split_digest=data.split.digest(data.checked.digests),
            images={name: len(part) for name, part in data.split._asdict().items()},
            left_out=data.checked.card.left_out_by_reason(),
            classes=len(trained.labels),
            hub_module=shown(module.handle),
            hub_digest=module.digest,
            hyperparameters=trained.hyperparameters,
            accuracy=found.accuracy.value,
            accuracy_interval=(found.accuracy.low, found.accuracy.high),
            top_5=found.top_5.value,
            macro_f1=found.macro_f1.value,
            log_loss=found.log_loss.value,
            calibration_error=found.calibration.error,
            temperature=temperature,
            threshold=threshold,
            gates=tuple(GateRecord(name=gate.name, passed=gate.passed, wanted=gate.wanted, found=gate.found)
                        for gate in measured.gates),
            seconds=self._seconds,
        )  # fmt: skip

    def _report(self, data: _Data, trained: "Trained", measured: _Measured, record: "TrainingRecord") -> "Report":
        from trainer.report.page import Report

        assert self._target is not None
        card = data.checked.card
        is_published = all(gate.passed for gate in measured.gates)
        facts = {
            **({"made": f"{record.created:%Y-%m-%d %H:%M} UTC"} if record.created else {}),
            "command": record.command,
            "images": ", ".join(f"{count:,} {name}" for name, count in record.images.items()),
            "data digest": record.data_digest,
            "split digest": record.split_digest,
            "hub module": record.hub_module,
            "hub module's digest": record.hub_digest,
            "hyper-parameters": ", ".join(f"{name} {value}" for name, value in record.hyperparameters.items()),
            "seconds": ", ".join(f"{name} {seconds:.1f}" for name, seconds in record.seconds.items()),
            "versions": ", ".join(f"{name} {number}" for name, number in record.libraries.items()),
            **({"commit": record.code} if record.code else {}),
        }
        return Report(
            title=f"Model {self._job.name}",
            evaluation=measured.evaluation,
            is_published=is_published,
            gates=measured.gates,
            history=trained.history,
            best_epoch=trained.best_epoch,
            choice=trained.choice,
            suspects=measured.suspects,
            card=card.model_validate_json(self._copies.named(card.model_dump_json())),
            groups=data.groups,
            record=facts,
        )

    def _files(self, data: _Data, report: "Report", record: "TrainingRecord", measured: _Measured) -> dict[str, str]:
        """The texts that tell of the model, by the names of their files."""
        from trainer.evaluation.evaluation import EVALUATION_FILE
        from trainer.lineage import IMAGES_FILE, images_csv
        from trainer.report.page import render

        local = {self._copies.original(image.path): image.path for part in data.split for image in part}

        def read(path: str) -> bytes:
            return Path(local.get(path, path)).read_bytes()

        page = render(report, None if self._job.no_thumbnails else read, upright=self._job.orientation == "exif")
        return {
            REPORT_FILE: page,
            EVALUATION_FILE: measured.evaluation.model_dump_json(indent=1),
            TRAINING_FILE: record.model_dump_json(indent=1),
            IMAGES_FILE: images_csv(data.split, data.checked.digests, self._copies.original),
            LABEL_CHECK_FILE: _label_check(measured.suspects),
        }

    def _not_blessed(self, measured: _Measured, files: dict[str, str]) -> NotBlessed:
        """Writes the report, and gives the error that says which gates failed."""
        assert self._work is not None
        folder = Path(self._job.report) if self._job.report else self._work.path / "report"
        self._write(folder, files)
        report = folder / REPORT_FILE
        failed = [gate for gate in measured.gates if not gate.passed]
        reasons = "; ".join(f"`{gate.name}` wanted {gate.wanted}, found {gate.found}" for gate in failed)
        return NotBlessed(
            f"the model was not published: {reasons}. Report: {printable(str(report))}", report=str(report)
        )

    def _write(self, folder: Path, files: dict[str, str]) -> None:
        with explaining(f"`report` {printable(str(folder))} can't be written"):
            folder.mkdir(parents=True, exist_ok=True)
            for name, text in files.items():
                (folder / name).write_text(text, encoding="utf-8")

    def _note(self, text: str) -> None:
        self._progress.note(text)

    def _named(self, text: str) -> None:
        """A note that names the bucket's files, and not their copies."""
        self._note(self._copies.named(text))

    @contextlib.contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self._seconds[step] = round(time.monotonic() - began, 2)


def _check_together(job: TrainJob) -> None:
    """Raises UsageError for an option that does nothing without another."""
    if job.train_batch_norm and not job.fine_tune:
        raise UsageError("`train_batch_norm` does nothing without `fine_tune`: give both, or none")
    if job.mixed_precision and not (job.fine_tune or job.augment):
        raise UsageError(
            "`mixed_precision` does nothing without `fine_tune` or `augment`: give one of them, or leave it"
        )


def _check_files(job: TrainJob) -> None:
    """Raises UsageError for a folder that can't be written to, or a file that isn't there, where a disk tells it."""
    for field in ("model_store", "report", "tensorboard", "work_folder"):
        folder = getattr(job, field)
        if folder and not scheme(folder):
            check_can_write(folder, field)
    if job.groups and not scheme(job.groups) and not Path(job.groups).is_file():
        raise UsageError(f"`groups` {printable(job.groups)}: no such file")


def _check_same(answers: "Array", expected: "Array") -> None:
    """Raises FlowImagesError where the published model answers otherwise than the one that was trained."""
    import numpy as np

    distance = float(np.abs(answers - expected).max(axis=1).mean())
    if not distance <= _SAME:
        raise FlowImagesError(
            f"in a fresh server the exported model does not answer as the trained one: a score of a test image differs "
            f"by {distance:.4f} in the mean; nothing was published"
        )


def _label_check(suspects: "Sequence[Suspect]") -> str:
    """The text of label_check.csv: all training images, the one whose label is most likely wrong first."""
    from serving.client.scores import format_score

    text = io.StringIO()
    writer: Any = csv.writer(text, lineterminator="\n")
    writer.writerow(("path", "label", "suggested", "label_score", "suggested_score", "is_likely"))
    writer.writerows(
        (
            one.path,
            one.label,
            one.suggested,
            format_score(one.label_score),
            format_score(one.suggested_score),
            one.is_likely,
        )
        for one in suspects
    )
    return text.getvalue()
