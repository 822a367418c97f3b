"""`flow-images train`: flags, progress and the closing lines, nothing else."""

import dataclasses
import json
import shlex
from typing import TYPE_CHECKING

import click

from serving.console.field_names import with_flags
from serving.console.option_flags import option_flags
from serving.console.terminal import console, printable
from serving.errors import FlowImagesError, UsageError
from trainer.options import TrainJob, TrainOptions
from trainer.stopping import stoppable
from trainer.waiting import saying

if TYPE_CHECKING:
    from serving.model_store.publish import Publication
    from serving.storage.base import Storage
    from trainer.bucket_copies import BucketCopies
    from trainer.evaluate import Evaluation
    from trainer.export import Exported
    from trainer.labelled_images import LabelledPicture
    from trainer.train import Epoch, Trained


@click.command()
@option_flags(TrainJob)
def train(job: TrainJob) -> None:
    """Fine-tune a TensorFlow Hub image model on labelled pictures, and export it for serving.

    The model is published as STORE/NAME/VERSION, whole, with its labels and preprocessing inside, and with 16 golden
    pictures: files of yours by which a prediction job checks that a server answers as the model did.
    """
    from serving.model_store.publish import check_publication
    from serving.storage.stores import Stores
    from trainer.bucket_copies import BucketCopies
    from trainer.hub_handle import check_hub_handle

    options = job.part(TrainOptions)
    _check_sources(job.labels, job.images, job.folder)
    check_publication(job.model_store, job.name)
    check_hub_handle(options.hub_model)
    stores = Stores()
    copies = BucketCopies(stores, _note)
    target: Publication | None = None

    def clean_up() -> None:
        copies.remove()
        if target:
            target.discard()

    with stoppable(lambda: _interrupted(target), clean_up), copies, copies.original_names():
        pictures = _pictures(job.labels, job.images, job.folder, copies)
        target = _target(job.model_store, job.name, job.version, stores.writable(job.model_store))
        from serving.tensorflow_import import import_tensorflow

        import_tensorflow()
        trained = _train(pictures, options)
        evaluation, exported = _publish(trained, options, target, job.assert_accuracy)
        _conclude(trained, evaluation, exported, target)


def _interrupted(target: "Publication | None") -> str:
    is_published = target is not None and target.is_published
    outcome = f"{printable(target.path)} was published before" if is_published and target else "nothing was published"
    return f"flow-images train: interrupted; {outcome}"


def _check_sources(labels: str | None, images: str | None, folder: str | None) -> None:
    if labels and folder:
        raise UsageError("give --labels or --folder, not both")
    if not labels and not folder:
        raise UsageError("say where the pictures are: --labels CSV (with --images FOLDER), or --folder FOLDER")
    if images and not labels:
        raise UsageError("--images goes with --labels; a folder a class is --folder alone")


def _pictures(
    labels: str | None, images: str | None, folder: str | None, copies: "BucketCopies"
) -> "list[LabelledPicture]":
    from trainer.labelled_images import check_pictures, read_folder, read_labels, unlabelled

    def note(text: str) -> None:
        _note(copies.named(text))

    labels, images, folder = copies.sources(labels, images, folder)
    with saying("reading and checking pictures", note):
        pictures = read_labels(labels, images, note, copies.local) if labels else read_folder(folder or "", note)
        checked = check_pictures(pictures)
        extra = unlabelled(pictures, images) if images else []
    if len(checked) < len(pictures):
        note(f"{len(pictures) - len(checked)} of {len(pictures)} pictures are copies of others and are left out")
    if extra and images:
        names = ", ".join(map(printable, extra[:3])) + (", …" if len(extra) > 3 else "")
        note(f"no label names {len(extra)} of the files in {printable(images)}; they are left out: {names}")
    return checked


def _note(text: str) -> None:
    click.echo(f"flow-images: {with_flags(text)}", err=True)


def _train(pictures: "list[LabelledPicture]", options: TrainOptions) -> "Trained":
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from trainer.train import train

    screen = console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=screen, disable=not screen.is_terminal, transient=True) as progress:
        task = progress.add_task("loading the hub module", total=None)
        steps = 0

        def on_batch() -> None:
            nonlocal steps
            steps += 1
            progress.advance(task)

        def on_epoch(epoch: "Epoch") -> None:
            per_epoch = steps // epoch.number
            progress.update(
                task, total=options.epochs * per_epoch, description=f"epoch {epoch.number}/{options.epochs}"
            )
            line = f"loss {epoch.loss:.4f}  accuracy {epoch.accuracy:.3f}  validation {epoch.validation_accuracy:.3f}"
            progress.console.print(f"epoch {epoch.number:3}/{options.epochs}  {line}", soft_wrap=True)

        def note(text: str) -> None:
            progress.console.print(f"flow-images: {with_flags(text)}", soft_wrap=True)

        return train(pictures, options, on_batch=on_batch, on_epoch=on_epoch, note=note)


def _target(store: str, name: str, number: int | None, storage: "Storage") -> "Publication":
    from serving.model_store.publish import Publication

    with saying(f"waiting for {printable(store)}", _note):
        target = Publication(store, name, number, storage)
        higher = target.higher()
    if higher is not None:
        _note(
            f"WARNING: --version {number} is below version {higher} in {printable(target.model_path)}: servers, and "
            "predict --model, take the highest unless they are told a version"
        )
    return target


def _publish(
    trained: "Trained", options: TrainOptions, target: "Publication", assert_accuracy: float
) -> "tuple[Evaluation, Exported]":
    from trainer.evaluate import evaluate
    from trainer.export import exporting

    golden = [picture.path for picture in trained.validation]
    with (
        saying("checking and publishing the model", _note),
        exporting(trained.model, trained.labels, trained.preprocessing, golden, target) as exported,
    ):
        evaluation = evaluate(exported.ask, trained.validation, trained.labels)
        if evaluation.accuracy < assert_accuracy:
            raise FlowImagesError(
                f"accuracy {evaluation.accuracy:.3f} on {len(trained.validation)} validation pictures is below "
                f"--assert-accuracy {assert_accuracy}: no model was published"
            )
        exported.add("training.json", _record(trained, options, evaluation))
    return evaluation, exported


def _record(trained: "Trained", options: TrainOptions, evaluation: "Evaluation") -> str:
    """What the model was made of, for whoever finds it in a store."""
    record = {
        "options": dataclasses.asdict(options) | {"learning_rate": options.rate},
        "training_pictures": len(trained.training),
        "validation_pictures": len(trained.validation),
        "accuracy": evaluation.accuracy,
        "classes": {row.label: {"pictures": row.pictures, "right": row.right} for row in evaluation.classes},
    }
    return json.dumps(record, indent=1, ensure_ascii=False)


def _conclude(trained: "Trained", evaluation: "Evaluation", exported: "Exported", target: "Publication") -> None:
    from rich.table import Table

    from trainer.golden import undetected_errors

    table = Table("class", "pictures", "right", title="Validation", title_justify="left")
    for row in evaluation.classes:
        table.add_row(row.label, str(row.pictures), str(row.right))
    console().print(table)
    click.echo(
        f"accuracy {evaluation.accuracy:.3f} on {len(trained.validation)} pictures that were not trained on; "
        f"{len(trained.labels)} classes, {len(trained.training)} pictures trained on"
    )
    golden = exported.contract.golden
    missed = undetected_errors(golden) if golden else []
    if missed:
        _note(
            f"WARNING: the model's answers to its golden pictures hardly depend on {', '.join(missed)}, so a job will "
            "not notice a server or client that gets that wrong"
        )
    click.echo(f"model: {printable(target.path)}")
    model = printable(shlex.quote(target.path))
    click.echo(f"next:  flow-images predict --model {model} --input 'PICTURES/**/*.jpg' --output out/")
