"""What a published version says of its origin: `training.json` and `training_images.csv`, in its `assets.extra`."""

import csv
import io
import json
import shlex
import subprocess
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pydantic

from serving.console.option_fields import Options, option_fields
from serving.contract import SCHEMA_VERSION
from serving.storage.base import shown
from trainer.images.labelled_images import LabelledImage
from trainer.images.split import Split

IMAGES_FILE = "training_images.csv"
_LIBRARIES = ("flow-images", "tensorflow", "tf-keras", "tensorflow-hub", "numpy")
_PLACES = ("model_store", "report", "tensorboard", "work_folder")
"""Options that say where something is written, and change nothing of the model."""
_COLUMNS = ("path", "label", "split", "digest")


class GateRecord(pydantic.BaseModel):
    """A gate that the version was published through."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    name: str
    passed: bool
    wanted: str
    found: str


class TrainingRecord(pydantic.BaseModel):
    """How a version was made, and what it was measured to do. Versions of older releases have only some of it."""

    model_config = pydantic.ConfigDict(frozen=True, extra="ignore")

    schema_version: Literal[1] = SCHEMA_VERSION
    created: datetime | None = None
    """UTC."""
    command: str = ""
    """The command that makes it again."""
    code: str = ""
    """Git commit of the program, where it ran from a checkout."""
    libraries: dict[str, str] = {}
    options: dict[str, Any] = {}
    seed: int | None = None
    data_digest: str = ""
    """SHA-256 of all images' bytes and labels."""
    split_digest: str = ""
    """SHA-256 of which image is in which part."""
    images: dict[str, int] = {}
    """How many images each part of the split has."""
    left_out: dict[str, int] = {}
    """Files that are in no part, by the reason."""
    classes: int | None = None
    hub_module: str = ""
    hub_digest: str = ""
    """SHA-256 of the SavedModel's files."""
    hyperparameters: dict[str, float | int | str] = {}
    """The hyperparameters that were used."""
    accuracy: float | None = None
    accuracy_interval: tuple[float, float] | None = None
    top_5: float | None = None
    macro_f1: float | None = None
    log_loss: float | None = None
    calibration_error: float | None = None
    temperature: float | None = None
    threshold: float | None = None
    gates: tuple[GateRecord, ...] = ()
    seconds: dict[str, float] = {}
    """How long each step took."""

    @property
    def inputs(self) -> dict[str, Any]:
        """What it was made of, as far as that is known before a training."""
        return _inputs(self.options, self.data_digest, self.split_digest)

    @property
    def blessed_by(self) -> tuple[str, ...]:
        """Names of the gates that it passed."""
        return tuple(gate.name for gate in self.gates if gate.passed)


class TrainingImage(NamedTuple):
    """An image that a version was made of."""

    path: str
    label: str
    split: str
    digest: str
    """SHA-256 of its bytes."""


def origin(command: str, options: Options) -> dict[str, Any]:
    """The fields of a `TrainingRecord` that tell when, by what program and with which options something was made.

    Args:
      command: `train`.
      options: of the command.
    """
    return {
        "created": datetime.now(UTC).replace(microsecond=0),
        "command": command_line(command, options),
        "code": _commit(),
        "libraries": {name: metadata.version(name) for name in _LIBRARIES},
        "options": _options(options),
    }


def inputs(options: Options, data_digest: str, split_digest: str) -> dict[str, Any]:
    """What a training with these options would be made of: compare with `TrainingRecord.inputs`."""
    return _inputs(json.loads(json.dumps(_options(options))), data_digest, split_digest)


def _options(options: Options) -> dict[str, Any]:
    return {name: _told(getattr(options, name)) for name in option_fields(type(options))}


def _inputs(options: Mapping[str, Any], data_digest: str, split_digest: str) -> dict[str, Any]:
    kept = {name: value for name, value in options.items() if name not in _PLACES}
    return {"options": kept, "data_digest": data_digest, "split_digest": split_digest}


def command_line(command: str, options: Options) -> str:
    """The command that has these options, with those flags that differ from their defaults, and no secret of a URL."""
    words = ["flow-images", command]
    for name, field in option_fields(type(options)).items():
        value = _told(getattr(options, name))
        if value is None or (not field.is_required and value == field.default):
            continue
        words += [field.flag] if value is True else [field.flag, field.text(value).replace(",", "")
                                                     if isinstance(value, int) else field.text(value)]  # fmt: skip
    return shlex.join(words)


def images_csv(split: Split, digests: Mapping[str, str], original: Callable[[str], str] = str) -> str:
    """The text of `training_images.csv`: a row an image, by part.

    Args:
      split: the three parts.
      digests: SHA-256 of each image's bytes, by path.
      original: gives the path as the user knows it.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for part, images in split._asdict().items():
        writer.writerows((original(image.path), image.label, part, digests[image.path]) for image in images)
    return text.getvalue()


def read_images(text: str) -> list[TrainingImage]:
    """The rows of `training_images.csv`.

    Raises:
      ValueError: the text is not such a table.
    """
    rows = list(csv.reader(io.StringIO(text)))
    if not rows or tuple(rows[0]) != _COLUMNS or any(len(row) != len(_COLUMNS) for row in rows):
        raise ValueError(f"it lacks the columns {','.join(_COLUMNS)}")
    return [TrainingImage(*row) for row in rows[1:]]


def read_record(text: str) -> TrainingRecord:
    """The record in a `training.json`.

    Raises:
      ValueError: the text is not such a record.
    """
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError("it is not a JSON object")
    return TrainingRecord.model_validate(found)


def renamed(images: list[LabelledImage], original: Callable[[str], str]) -> list[LabelledImage]:
    """The images, by their paths as the user knows them."""
    return [image._replace(path=original(image.path)) for image in images]


def _told(value: Any) -> Any:
    """An option's value, a URL without its query and password, as whoever has the model can read it."""
    return shown(value) if isinstance(value, str) else value


def _commit() -> str:
    """The commit of the program's checkout; empty where it is installed, or where git is missing."""
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return ""
    command = ["git", "-C", str(root), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
