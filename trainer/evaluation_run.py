"""An evaluation: a model that is published or served is asked about labelled images, and measured. No terminal here."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from serving.client.client_options import ConnectionOptions
from serving.client.model_overrides import ModelOverrides
from serving.client.server_choice import Connection
from serving.console.terminal import printable
from serving.errors import FlowImagesError, UsageError
from serving.process.temporary_files import explaining_full_temporary_files
from serving.storage.disk import check_can_write
from serving.storage.stores import Stores
from serving.text.label_file import check_class_names
from trainer.evaluate_options import EvaluateJob
from trainer.image_sources import check_sources, read_sources
from trainer.images.bucket_copies import BucketCopies
from trainer.progress import Progress
from trainer.tensorflow_errors import explaining

if TYPE_CHECKING:
    from trainer.evaluation.answers import Answers
    from trainer.evaluation.evaluation import Evaluation
    from trainer.images.check import CheckedImages

REPORT_FILE = "report.html"
_SHOWN = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluatedModel:
    """A model, and what it was measured to do."""

    model: str
    """The name of the model."""
    version: int
    evaluation: "Evaluation"
    report: str
    """Path of report.html."""
    known: int
    """Images that the model was trained on, which make it look better; 0 where it does not say."""


def evaluate(job: EvaluateJob, progress: Progress | None = None) -> EvaluatedModel:
    """Measures a model on labelled images, and writes report.html and evaluation.json.

    Args:
      job: all that the user decides.
      progress: is told how it goes on.

    Raises:
      UsageError: wrong options or images, or labels that the model doesn't know; nothing was written.
      Resumable: the server, a bucket or the disk is away or full.
      FlowImagesError: the server can't be asked.
    """
    progress = progress or Progress()
    check_sources(job)
    Connection(job)  # wrong options are told before images are read
    check_can_write(job.output, "output")
    if job.class_names is not None:
        check_class_names(job.class_names, "class_names")
    stores = Stores(policy=job.retry)
    with BucketCopies(stores, progress.note) as copies, copies.original_names(), explaining_full_temporary_files():
        checked = read_sources(job, copies, progress, for_training=False)
        return _Evaluating(job, stores, copies, progress).run(checked)


class _Evaluating:
    def __init__(self, job: EvaluateJob, stores: Stores, copies: BucketCopies, progress: Progress) -> None:
        self._job, self._stores, self._copies, self._progress = job, stores, copies, progress

    def run(self, checked: "CheckedImages") -> EvaluatedModel:
        from trainer.evaluation.answers import ask
        from trainer.evaluation.evaluation import EVALUATION_FILE
        from trainer.evaluation.metrics import measure
        from trainer.lineage import renamed

        paths = [image.path for image in checked.images]
        self._progress.begin(f"asking about {len(paths):,} images", len(paths))
        overrides = ModelOverrides(labels=self._job.class_names)
        labels = {image.label for image in checked.images}
        answers = ask(
            self._job.part(ConnectionOptions), paths, overrides=overrides, stores=self._stores,
            check=lambda contract: _check_labels(labels, contract.labels), progress=self._progress,
        )  # fmt: skip
        contract = answers.contract
        evaluation = measure(
            answers.probabilities, renamed(checked.images, self._copies.original), contract.labels,
            threshold=contract.threshold, target_precision=contract.target_precision or 0.0, seed=self._job.seed,
        )  # fmt: skip
        known = self._known(answers, checked.digests)
        if known:
            self._progress.note(
                f"WARNING: version {answers.version} was trained on {known:,} of the {len(paths):,} images: it looks "
                "better than it is"
            )
        page = self._page(checked, answers, evaluation, known)
        folder = Path(self._job.output)
        with explaining(f"`output` {printable(str(folder))} can't be written"):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / EVALUATION_FILE).write_text(evaluation.model_dump_json(indent=1), encoding="utf-8")
            (folder / REPORT_FILE).write_text(page, encoding="utf-8")
        return EvaluatedModel(model=self._name, version=answers.version, evaluation=evaluation,
                              report=str(folder / REPORT_FILE), known=known)  # fmt: skip

    @property
    def _name(self) -> str:
        return Connection(self._job).asked[0]

    def _known(self, answers: "Answers", digests: Mapping[str, str]) -> int:
        """How many of the images the version was trained on, as far as it says so."""
        from trainer.published_models import find_version, read_training_images

        if not self._job.model:
            self._progress.note(
                "a server doesn't tell which images its model was trained on: with `model` STORE/NAME/VERSION they are "
                "looked for among these"
            )
            return 0
        path = self._job.model.rstrip("/")
        if not path.endswith(f"/{answers.version}"):
            path = f"{path}/{answers.version}"
        try:
            storage = self._stores(path)
            seen = read_training_images(find_version(path, storage).path, storage) or []
        except FlowImagesError:
            return 0
        there = set(digests.values())
        return sum(image.digest in there for image in seen if image.split != "test")

    def _page(self, checked: "CheckedImages", answers: "Answers", evaluation: "Evaluation", known: int) -> str:
        from trainer.lineage import command_line
        from trainer.report.page import Report, render

        local = {self._copies.original(image.path): image.path for image in checked.images}
        card = checked.card
        notes = [f"The model was trained on {known:,} of these images, so it looks better than it is."] if known else []
        report = Report(
            title=f"Model {self._name}, version {answers.version}",
            evaluation=evaluation,
            card=card.model_validate_json(self._copies.named(card.model_dump_json())),
            groups=answers.contract.groups or {},
            record={"command": command_line("evaluate", self._job), "data digest": checked.digest},
            notes=notes,
        )
        upright = answers.contract.preprocessing.orientation == "exif"
        return render(report, None if self._job.no_thumbnails else lambda path: Path(local[path]).read_bytes(),
                      upright=upright)  # fmt: skip


def _check_labels(found: set[str], known: Sequence[str]) -> None:
    unknown = sorted(found - set(known))
    if unknown:
        names = ", ".join(map(repr, unknown[:_SHOWN])) + (", …" if len(unknown) > _SHOWN else "")
        knows = ", ".join(map(repr, known[:_SHOWN])) + (", …" if len(known) > _SHOWN else "")
        raise UsageError(f"the model doesn't know {len(unknown):,} of the labels: {names}; it knows {knows}")
