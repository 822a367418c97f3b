"""`flow-images train`: flags, progress and the closing lines, nothing else."""

import dataclasses
import json
import shlex
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from serving.console.field_names import with_flags
from serving.console.flag_types import Number
from serving.console.terminal import console, printable
from serving.errors import FlowImagesError, UsageError
from serving.model_store.versions import HIGHEST_VERSION
from trainer.options import HIGHEST_SEED, MODEL_URL, TrainOptions
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


def _hyperparameter(name: str, **options: Any) -> Callable[[Any], Any]:
    """A flag with the default of the field of `TrainOptions`."""
    default = next(field.default for field in dataclasses.fields(TrainOptions) if field.name == name)
    shown = {"show_default": default is not None} | options
    return click.option("--" + name.replace("_", "-"), default=default, **shown)


@click.command()
@click.option(
    "--labels",
    metavar="CSV",
    help="Kaggle's labels.csv (id,breed), or a CSV with path,label; on a disk or in a bucket.",
)
@click.option("--images", metavar="FOLDER", help="With id,breed: the folder of <id>.jpg, on a disk or in a bucket.")
@click.option(
    "--folder",
    metavar="FOLDER",
    help="Instead: a folder with one folder of pictures a class, on a disk or in a bucket.",
)
@_hyperparameter(
    "hub_model",
    metavar="URL|PATH",
    show_default=MODEL_URL.removeprefix("https://"),
    help="TF Hub URL, SavedModel folder or .tar.gz: code that will be run, so from a source you trust.",
)
@click.option(
    "--model-store",
    required=True,
    metavar="FOLDER",
    help="Folder of all models, on a disk or in a bucket; the model becomes STORE/NAME/VERSION.",
)
@click.option("--name", required=True, help="Name of the model.")
@click.option(
    "--version",
    type=click.IntRange(0, HIGHEST_VERSION),
    show_default="seconds since 1970, above all others",
    help="Version, an integer.",
)
@_hyperparameter("epochs", type=click.IntRange(1, 100_000), help="Passes over the training pictures.")
@_hyperparameter("batch_size", type=click.IntRange(1, 4096), help="Pictures a step.")
@_hyperparameter(
    "learning_rate",
    type=Number(1e-9, 1),
    help=f"Of Adam. [default: {TrainOptions.HEAD_RATE}; {TrainOptions.FINE_TUNE_RATE} with --fine-tune]",
)
@_hyperparameter("image_size", type=click.IntRange(1, 8192), help="Pixels, as the hub module takes them.")
@_hyperparameter(
    "orientation",
    type=click.Choice(["ignore", "exif"]),
    help="exif: turn pictures upright by their EXIF tag, here and in every prediction.",
)
@_hyperparameter("validation_share", type=float, help="Share of each class that the accuracy is measured on.")
@_hyperparameter("seed", type=click.IntRange(0, HIGHEST_SEED), help="Of the split, the order and the first weights.")
@_hyperparameter("fine_tune", is_flag=True, show_default=False, help="Train the hub module's weights, too: slower.")
@click.option(
    "--assert-accuracy",
    type=Number(0, 1),
    default=0.0,
    help="Publish nothing, and exit with 1, if the validation accuracy is below.",
)
def train(
    labels: str | None,
    images: str | None,
    folder: str | None,
    model_store: str,
    name: str,
    version: int | None,
    assert_accuracy: float,
    **hyperparameters: Any,
) -> None:
    """Fine-tune a TensorFlow Hub image model on labelled pictures, and export it for serving.

    The model is published as STORE/NAME/VERSION, whole, with its labels and preprocessing inside, and with 16 golden
    pictures: files of yours by which a prediction job checks that a server answers as the model did.
    """
    from serving.model_store.publish import check_publication
    from serving.storage.stores import Stores
    from trainer.bucket_copies import BucketCopies
    from trainer.hub_handle import check_hub_handle

    options = TrainOptions(**hyperparameters)
    _check_sources(labels, images, folder)
    check_publication(model_store, name)
    check_hub_handle(options.hub_model)
    stores = Stores()
    copies = BucketCopies(stores, _note)
    target: Publication | None = None

    def clean_up() -> None:
        copies.remove()
        if target:
            target.discard()

    with stoppable(lambda: _interrupted(target), clean_up), copies, copies.original_names():
        pictures = _pictures(labels, images, folder, copies)
        target = _target(model_store, name, version, stores.writable(model_store))
        from serving.tensorflow_import import import_tensorflow

        import_tensorflow()
        trained = _train(pictures, options)
        evaluation, exported = _publish(trained, options, target, assert_accuracy)
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
