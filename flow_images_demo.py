"""`flow-images demo`: the main job on one machine, by the commands that a user would type."""

import csv
import json
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from serving.children import python_command, python_environment
from serving.errors import UsageError
from serving.terminal import console

if TYPE_CHECKING:
    from trainer.labels import LabelledPicture

_ROWS_SHOWN = 8


@click.command()
@click.option("--output", type=click.Path(file_okay=False, path_type=Path), default=Path("demo"), show_default=True)
@click.option(
    "--labels", help="Kaggle's labels.csv (id,breed), or a CSV with path,label. [default: pictures are drawn]"
)
@click.option("--images", help="Folder of the pictures that labels.csv names.")
@click.option("--hub-model", help="TF Hub URL, SavedModel folder or archive. [default: a small module is made]")
@click.option("--epochs", type=click.IntRange(min=1), help="Passes over the training pictures.")
@click.option("--seed", type=int, default=0, show_default=True)
def demo(
    output: Path, labels: str | None, images: str | None, hub_model: str | None, epochs: int | None, seed: int
) -> None:
    """Train, serve and predict on this machine, without internet.

    One picture in five is kept from training; the job predicts those, so its accuracy is that of new pictures.
    """
    from trainer.labels import check_pictures, read_labels, stratified_split

    if images and not labels:
        raise UsageError("--images needs --labels: the CSV that says what is in each picture")
    output.mkdir(parents=True, exist_ok=True)
    pictures = read_labels(labels, images) if labels else _draw(output, seed)
    pictures = check_pictures(pictures)
    hub_model = hub_model or _make_module(output)
    for_training, for_prediction = stratified_split(pictures, share=0.2, seed=seed)
    _write(output / "train.csv", for_training)
    _write(output / "new.csv", for_prediction)

    _run("train", "--labels", output / "train.csv", "--hub-model", hub_model, "--model-store", output / "models",
         "--name", "demo", "--seed", seed, *(["--epochs", epochs] if epochs else []))  # fmt: skip
    _run("predict", "--model", output / "models" / "demo", "--input", output / "new.csv",
         "--output", output / "predictions", "--fresh")  # fmt: skip
    _show(output / "predictions")


def _draw(output: Path, seed: int) -> "list[LabelledPicture]":
    from trainer.drawing import TEXTURES, draw_pictures
    from trainer.labels import read_labels

    click.echo(
        f"Drawing pictures of {', '.join(TEXTURES)} in {output / 'pictures'}: they stand in for Kaggle's photos."
    )
    return read_labels(str(draw_pictures(output / "pictures", seed=seed)), str(output / "pictures" / "train"))


def _make_module(output: Path) -> str:
    from serving.quiet import import_tensorflow

    click.echo(f"Making a hub module in {output / 'hub'}: it stands in for a TF Hub URL.")
    import_tensorflow()
    from trainer.drawing import make_hub_module

    return str(make_hub_module(output / "hub"))


def _write(path: Path, pictures: "Sequence[LabelledPicture]") -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "label"), *pictures])


def _run(*arguments: object) -> None:
    """Runs a command as a user would; its errors are on the screen, so only its exit code is passed on."""
    words = [str(argument) for argument in arguments]
    console().print(f"\n$ flow-images {shlex.join(words)}", style="bold", soft_wrap=True)
    code = subprocess.run(python_command("flow_images", *words), env=python_environment(), check=False).returncode
    if code:
        raise click.exceptions.Exit(code)


def _show(folder: Path) -> None:
    from rich.table import Table

    with open(folder / "predictions.csv", newline="", encoding="utf-8") as file:
        header, *rows = list(csv.reader(file))
    shown = [header.index(name) for name in ("path", "label", "score", "label_2", "score_2", "true_label")]
    table = Table(*(header[index] for index in shown), title=f"{folder / 'predictions.csv'}", title_justify="left")
    for row in rows[:_ROWS_SHOWN]:
        table.add_row(*(Path(row[index]).name if index == 0 else row[index] for index in shown))
    console().print(table)
    run = json.loads((folder / "run.json").read_text())
    click.echo(
        f"{len(rows)} predictions in {folder / 'predictions.csv'}; accuracy {run['accuracy']:.3f} on pictures that"
    )
    click.echo("the model has not seen")
