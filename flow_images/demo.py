"""`flow-images demo`: the main job on one machine, by the commands that a user would type."""

import csv
import json
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from serving.console.grouped_help import GroupedCommand
from serving.console.option_fields import Options, option, options_class
from serving.console.option_flags import option_flags
from serving.console.terminal import console, printable, say, show_table
from serving.errors import UsageError
from serving.process.child_process import python_command, python_environment
from trainer.train_options import HIGHEST_SEED, MOST_EPOCHS

if TYPE_CHECKING:
    from trainer.clean_stop import Stopping
    from trainer.images.labelled_images import LabelledImage

_ROWS_SHOWN = 8


@options_class
class DemoOptions(Options, group="Input"):
    """Which images the demonstration runs on, how long it trains, and where it writes."""

    output: str = option("Folder for all that is made.", default="demo", metavar="FOLDER", group="Output")
    labels: str | None = option(
        "Kaggle's labels.csv (id,breed), or a CSV with path,label.",
        default=None,
        metavar="CSV",
        default_words="images are drawn",
    )
    images: str | None = option("Folder of the images that labels.csv names.", default=None, metavar="FOLDER")
    hub_model: str | None = option(
        "TF Hub URL, SavedModel folder or archive.",
        group="Training",
        default=None,
        metavar="URL|PATH",
        default_words="a small module is made",
    )
    epochs: int | None = option(
        "Passes over the training images.",
        group="Training",
        default=None,
        least=1,
        most=MOST_EPOCHS,
        default_words="as many as `train` takes",
    )
    seed: int = option(
        "Seed of the drawn images, the split, the order and the first weights.",
        group="Training",
        default=0,
        least=0,
        most=HIGHEST_SEED,
    )


@click.command(
    cls=GroupedCommand,
    examples=(
        "flow-images demo",
        "flow-images demo --labels labels.csv --images train/ \\\n--hub-model mobilenet.tar.gz --output dogs-demo",
    ),
)
@option_flags(DemoOptions)
def demo(options: DemoOptions) -> None:
    """Train, serve and predict on this machine, without internet.

    One image in five is kept from training; the job predicts those, so its accuracy is that of new images.
    """
    output, labels, images = Path(options.output), options.labels, options.images
    if images and not labels:
        raise UsageError("--images needs --labels: the CSV that says what is in each image")
    from trainer.clean_stop import stoppable
    from trainer.tensorflow_errors import explaining

    for flag, value in (("--output", str(output)), ("--images", images), ("--labels", labels)):
        if value and "://" in value:
            raise UsageError(f"{flag} {printable(value)}: expected one of this machine; copy it first")
        if value and not value.isprintable():
            raise UsageError(f"{flag} {printable(value)}: the name can't be written to the demo's files: rename it")
    commands = _Commands()
    with stoppable(commands.ending, commands.end, within_s=20.0) as stopping:
        with explaining(f"--output {printable(str(output))} can't be written"):
            output.mkdir(parents=True, exist_ok=True)
            hub_model = _prepare(output, labels, images, options.hub_model, options.seed)
        models, longer = output / "models", ("--epochs", options.epochs) if options.epochs else ()
        commands.run(stopping, "train", "--labels", output / "train.csv", "--hub-model", hub_model,
                     "--model-store", models, "--name", "demo", "--seed", options.seed, *longer)  # fmt: skip
        commands.run(stopping, "predict", "--model", models / "demo", "--input", output / "new.csv",
                     "--output", output / "predictions", "--fresh")  # fmt: skip
        _show(output / "predictions")


class _Commands:
    """The commands that a user would type, one after the other; a signal to us is passed on to the one that runs."""

    def __init__(self) -> None:
        self._running: subprocess.Popen[bytes] | None = None
        self._has_said = False

    def run(self, stopping: "Stopping", *arguments: object) -> None:
        """Runs a command; its errors are on the screen, so only its exit code is passed on."""
        words = [str(argument) for argument in arguments]
        console().print(f"\n$ flow-images {shlex.join(words)}", style="bold", soft_wrap=True)
        command = python_command("flow_images", *words)
        try:
            with stopping.later():
                # In a session of its own, so that it gets one signal for a Ctrl-C: ours.
                self._running = subprocess.Popen(command, env=python_environment(), start_new_session=True)
            code = self._running.wait()
        except BaseException:
            self.end()
            if self._running is not None:
                self._has_said = self._running.wait() > 0  # below 0: ended by the signal before it could say anything
            raise
        self._running = None
        if code:
            raise click.exceptions.Exit(code if code > 0 else 128 - code)

    def end(self) -> None:
        """Tells the command that runs to stop."""
        if self._running is not None:
            self._running.terminate()

    def ending(self) -> str:
        """What is left to say when we are stopped."""
        return "" if self._has_said else "flow-images demo: interrupted"


def _prepare(output: Path, labels: str | None, images: str | None, hub_model: str | None, seed: int) -> str:
    """Writes train.csv and new.csv; returns the hub module."""
    from trainer.images.check import check_images
    from trainer.images.labelled_images import read_labels
    from trainer.images.split import split_images

    def note(text: str) -> None:
        say(f"flow-images: {text}", err=True)

    checked = check_images(read_labels(labels, images, note) if labels else _draw(output, seed))
    hub_model = hub_model or _make_module(output)
    # One in five, by the share that tests: the training splits the rest again.
    split = split_images(checked.images, checked.digests, checked.near_duplicates, validation_share=0.0,
                         test_share=0.2, seed=seed, note=note)  # fmt: skip
    _write(output / "train.csv", [*split.training, *split.validation])
    _write(output / "new.csv", split.test)
    return hub_model


def _draw(output: Path, seed: int) -> "list[LabelledImage]":
    from trainer.demo_data import TEXTURES, draw_images
    from trainer.images.labelled_images import read_labels

    say(f"Drawing images of {', '.join(TEXTURES)} in {output / 'images'}: they stand in for Kaggle's photos.")
    return read_labels(str(draw_images(output / "images", seed=seed)), str(output / "images" / "train"))


def _make_module(output: Path) -> str:
    from serving.process.tensorflow_import import import_tensorflow

    say(f"Making a hub module in {output / 'hub'}: it stands in for a TF Hub URL.")
    import_tensorflow()
    from trainer.demo_data import make_hub_module

    return str(make_hub_module(output / "hub"))


def _write(path: Path, images: "Sequence[LabelledImage]") -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "label"), *((image.path, image.label) for image in images)])


def _show(folder: Path) -> None:
    from rich.table import Table

    with open(folder / "predictions.csv", newline="", encoding="utf-8") as file:
        header, *rows = list(csv.reader(file))
    shown = [header.index(name) for name in ("path", "label", "score", "label_2", "score_2", "true_label")]
    table = Table(*(header[index] for index in shown), title=f"{folder / 'predictions.csv'}", title_justify="left")
    for row in rows[:_ROWS_SHOWN]:
        table.add_row(*(printable(Path(row[index]).name if index == 0 else row[index]) for index in shown))
    show_table(table)
    run = json.loads((folder / "run.json").read_text())
    say(f"accuracy {run['accuracy']:.3f} on {len(rows)} images that the model has not seen")
