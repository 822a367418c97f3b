"""A whole training: images are read and checked, a model is trained, measured and published. No terminal in here."""

import dataclasses
import json
import logging
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from serving.console.terminal import printable
from serving.errors import FlowImagesError, UsageError
from serving.model_store.publish import Publication, check_publication
from serving.storage.stores import Stores
from serving.tensorflow_import import import_tensorflow
from trainer.bucket_copies import BucketCopies
from trainer.hub_handle import check_hub_handle
from trainer.options import TrainJob, TrainOptions
from trainer.slow_steps import reporting

if TYPE_CHECKING:
    from trainer.evaluate import ClassAccuracy, Evaluation
    from trainer.labelled_images import LabelledImage
    from trainer.train import Epoch, Trained

_LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainedModel:
    """A model that was trained and published."""

    path: str
    """STORE/NAME/VERSION."""
    version: int
    labels: tuple[str, ...]
    """Class names; position i names output i."""
    accuracy: float
    """Share of the validation images that were right, 0..1; none of them was trained on."""
    classes: "tuple[ClassAccuracy, ...]"
    """The same by class, in the order of the labels."""
    training_images: int
    validation_images: int
    undetected: tuple[str, ...]
    """Wrong preprocessings that the model's golden images would not tell from the right one."""


class TrainingRun:
    """One training, in three steps: `read_images`, `train`, `publish`. A context manager that removes temporary files.

    The steps are apart so that a command can show the progress of each; `run` does them all.
    """

    def __init__(self, job: TrainJob, note: Callable[[str], None] = _LOG.warning) -> None:
        """Checks the options, before anything is read or TensorFlow is loaded.

        Args:
          job: all that the user decides.
          note: is told what is left out and what is waited for.

        Raises:
          UsageError: they contradict each other, or can't be used.
        """
        _check_sources(job)
        check_publication(job.model_store, job.name)
        check_hub_handle(job.hub_model)
        self._job = job
        self._note = note
        self._stores = Stores()
        self._copies = BucketCopies(self._stores, note)
        self._target: Publication | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._copies.remove()

    @property
    def published(self) -> str | None:
        """STORE/NAME/VERSION, once it is published."""
        return self._target.path if self._target is not None and self._target.is_published else None

    def discard(self) -> None:
        """Removes what is written and not published; may be called from any thread."""
        self._copies.remove()
        if self._target is not None:
            self._target.discard()

    def run(self) -> TrainedModel:
        """All steps.

        Raises:
          UsageError: wrong input; nothing was published.
          Resumable: something that the training needs is away or full.
          FlowImagesError: it failed, or the accuracy is below `assert_accuracy`; nothing was published.
        """
        return self.publish(self.train(self.read_images()))

    def read_images(self) -> "list[LabelledImage]":
        """The labelled images, checked, without copies of each other; and the place for the model is found."""
        with self._copies.original_names():
            images = self._read_images()
            self._target = self._find_target()
        return images

    def train(
        self,
        images: "list[LabelledImage]",
        *,
        on_batch: Callable[[], None] = lambda: None,
        on_epoch: "Callable[[Epoch], None]" = lambda epoch: None,
        note: Callable[[str], None] | None = None,
    ) -> "Trained":
        """See `trainer.train.train`."""
        import_tensorflow()
        from trainer.train import train

        with self._copies.original_names():
            return train(
                images, self._job.part(TrainOptions), on_batch=on_batch, on_epoch=on_epoch, note=note or self._note
            )

    def publish(self, trained: "Trained") -> TrainedModel:
        """Measures the model as it is exported, and publishes it if it is accurate enough."""
        from trainer.evaluate import evaluate
        from trainer.export import exporting
        from trainer.golden import undetected_errors

        assert self._target is not None
        golden = [image.path for image in trained.validation]
        with (
            self._copies.original_names(),
            reporting("checking and publishing the model", self._note),
            exporting(trained.model, trained.labels, trained.preprocessing, golden, self._target) as exported,
        ):
            evaluation = evaluate(exported.ask, trained.validation, trained.labels)
            if evaluation.accuracy < self._job.assert_accuracy:
                raise FlowImagesError(
                    f"accuracy {evaluation.accuracy:.3f} on {len(trained.validation)} validation images is below "
                    f"`assert_accuracy` {self._job.assert_accuracy}: no model was published"
                )
            exported.add("training.json", self._record(trained, evaluation))
        contract = exported.contract
        return TrainedModel(
            path=self._target.path,
            version=self._target.number,
            labels=tuple(trained.labels),
            accuracy=evaluation.accuracy,
            classes=tuple(evaluation.classes),
            training_images=len(trained.training),
            validation_images=len(trained.validation),
            undetected=tuple(undetected_errors(contract.golden) if contract.golden else ()),
        )

    def _read_images(self) -> "list[LabelledImage]":
        from trainer.labelled_images import check_images, read_folder, read_labels, unlabelled

        job = self._job
        labels, images, folder = self._copies.sources(job.labels, job.images, job.folder)
        with reporting("reading and checking images", self._named):
            found = (
                read_labels(labels, images, self._named, self._copies.local)
                if labels
                else read_folder(folder or "", self._named)
            )
            checked = check_images(found)
            extra = unlabelled(found, images) if images else []
        if len(checked) < len(found):
            self._named(f"{len(found) - len(checked)} of {len(found)} images are copies of others and are left out")
        if extra and images:
            names = ", ".join(map(printable, extra[:3])) + (", …" if len(extra) > 3 else "")
            self._named(f"no label names {len(extra)} of the files in {printable(images)}; they are left out: {names}")
        return checked

    def _named(self, text: str) -> None:
        """A note that names the bucket's files, and not their copies."""
        self._note(self._copies.named(text))

    def _find_target(self) -> Publication:
        job = self._job
        with reporting(f"waiting for {printable(job.model_store)}", self._note):
            target = Publication(job.model_store, job.name, job.version, self._stores.writable(job.model_store))
            higher = target.higher()
        if higher is not None:
            self._note(
                f"WARNING: `version` {job.version} is below version {higher} in {printable(target.model_path)}: "
                "servers, and predictions that bring their own, take the highest unless they are told a version"
            )
        return target

    def _record(self, trained: "Trained", evaluation: "Evaluation") -> str:
        """How the model was made, as JSON that is published with it."""
        options = self._job.part(TrainOptions)
        record = {
            "options": dataclasses.asdict(options) | {"learning_rate": options.rate},
            "training_pictures": len(trained.training),
            "validation_pictures": len(trained.validation),
            "accuracy": evaluation.accuracy,
            "classes": {row.label: {"pictures": row.images, "right": row.right} for row in evaluation.classes},
        }
        return json.dumps(record, indent=1, ensure_ascii=False)


def _check_sources(job: TrainJob) -> None:
    if job.labels and job.folder:
        raise UsageError("give `labels` or `folder`, not both")
    if not job.labels and not job.folder:
        raise UsageError("say where the images are: `labels` CSV (with `images` FOLDER), or `folder` FOLDER")
    if job.images and not job.labels:
        raise UsageError("`images` goes with `labels`; a folder a class is `folder` alone")
