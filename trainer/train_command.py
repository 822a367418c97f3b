"""`flow-images train`: flags, progress and the closing lines, nothing else."""

import shlex
from typing import TYPE_CHECKING

import click

from serving.console.field_names import with_flags
from serving.console.option_flags import option_flags
from serving.console.terminal import console, printable
from trainer.options import TrainJob
from trainer.stopping import stoppable

if TYPE_CHECKING:
    from trainer.labelled_images import LabelledImage
    from trainer.train import Epoch, Trained
    from trainer.training_run import TrainedModel, TrainingRun


@click.command()
@option_flags(TrainJob)
def train(job: TrainJob) -> None:
    """Fine-tune a TensorFlow Hub image model on labelled images, and export it for serving.

    The model is published as STORE/NAME/VERSION, whole, with its labels and preprocessing inside, and with 16 golden
    images: files of yours by which a prediction job checks that a server answers as the model did.
    """
    from trainer.training_run import TrainingRun

    run = TrainingRun(job, _note)
    with stoppable(lambda: _interrupted(run), run.discard), run:
        trained = _train(run, run.read_images(), job.epochs)
        _conclude(run.publish(trained))


def _interrupted(run: "TrainingRun") -> str:
    outcome = f"{printable(run.published)} was published before" if run.published else "nothing was published"
    return f"flow-images train: interrupted; {outcome}"


def _note(text: str) -> None:
    click.echo(f"flow-images: {with_flags(text)}", err=True)


def _train(run: "TrainingRun", images: "list[LabelledImage]", epochs: int) -> "Trained":
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

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
            progress.update(task, total=epochs * per_epoch, description=f"epoch {epoch.number}/{epochs}")
            line = f"loss {epoch.loss:.4f}  accuracy {epoch.accuracy:.3f}  validation {epoch.validation_accuracy:.3f}"
            progress.console.print(f"epoch {epoch.number:3}/{epochs}  {line}", soft_wrap=True)

        def note(text: str) -> None:
            progress.console.print(f"flow-images: {with_flags(text)}", soft_wrap=True)

        return run.train(images, on_batch=on_batch, on_epoch=on_epoch, note=note)


def _conclude(model: "TrainedModel") -> None:
    from rich.table import Table

    table = Table("class", "images", "right", title="Validation", title_justify="left")
    for row in model.classes:
        table.add_row(row.label, str(row.images), str(row.right))
    console().print(table)
    click.echo(
        f"accuracy {model.accuracy:.3f} on {model.validation_images} images that were not trained on; "
        f"{len(model.labels)} classes, {model.training_images} images trained on"
    )
    if model.undetected:
        _note(
            f"WARNING: the model's answers to its golden images hardly depend on {', '.join(model.undetected)}, so a "
            "job will not notice a server or client that gets that wrong"
        )
    click.echo(f"model: {printable(model.path)}")
    path = printable(shlex.quote(model.path))
    click.echo(f"next:  flow-images predict --model {path} --input 'IMAGES/**/*.jpg' --output out/")
