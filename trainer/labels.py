"""Which picture shows what: Kaggle's layout, a folder a class, or a CSV of paths. No TensorFlow in here."""

import csv
import hashlib
import os
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from serving.errors import UsageError
from serving.pictures import PictureLimits, PictureRejected, inspect_picture


class LabelledPicture(NamedTuple):
    """A picture file and the class that it shows."""

    path: str
    label: str


def read_labels(labels: str, images: str | None = None) -> list[LabelledPicture]:
    """Pictures of a CSV: Kaggle's `id,breed` with `<images>/<id>.jpg`, or `path,label`.

    Relative paths are taken from the working directory, or from `images` where it is given.

    Raises:
      UsageError: the file, a column or a picture is missing, or a row has no label.
    """
    try:
        with open(labels, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            columns = list(reader.fieldnames or [])
            rows = [(reader.line_num, row) for row in reader]
    except OSError as error:
        raise UsageError(f"--labels {labels}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(
            f"--labels {labels} is not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8"
        ) from error
    except csv.Error as error:
        raise UsageError(
            f"--labels {labels}, line {reader.reader.line_num}: {error}; mend the quotes of that line"
        ) from error
    if {"path", "label"} <= set(columns):
        path_column, label_column, suffix = "path", "label", ""
    elif {"id", "breed"} <= set(columns):
        path_column, label_column, suffix = "id", "breed", ".jpg"
        if images is None:
            raise UsageError(f"--labels {labels} has the columns id,breed: say where the pictures are with --images")
    else:
        found = ",".join(columns) or "none"
        raise UsageError(
            f"--labels {labels}: expected a first line with the columns id,breed or path,label; found {found}"
        )
    pictures = []
    for line, row in rows:
        where = f"--labels {labels}, line {line}"
        if None in row or None in row.values():
            raise UsageError(
                f"{where}: expected {len(columns)} values as in the first line; quote a value with a comma"
            )
        if not row[path_column]:
            raise UsageError(
                f"{where}: the label {row[label_column]!r} has no picture; fill in the column {path_column}"
            )
        path = os.path.join(images or "", row[path_column] + suffix)
        if not row[label_column]:
            raise UsageError(f"{where}: the picture {path} has no label; fill in the column {label_column}")
        if not os.path.isfile(path):
            raise UsageError(f"{where}: there is no picture {path}; mend the path (or --images), or drop the line")
        pictures.append(LabelledPicture(path, row[label_column]))
    return pictures


def read_folder(folder: str) -> list[LabelledPicture]:
    """Pictures of a folder with one folder a class; hidden files and folders are left out.

    Raises:
      UsageError: the folder is missing, or a picture lies beside the class folders, so that its class is unknown.
    """
    root = Path(folder)
    if not root.is_dir():
        raise UsageError(f"--folder {folder}: no such folder")
    found = sorted(path for path in root.rglob("*") if path.is_file() and not _is_hidden(path.relative_to(root)))
    for path in found:
        if path.parent == root:
            raise UsageError(f"--folder {folder}: {path} is in no class; move it to {folder}/CLASS/{path.name}")
    return [LabelledPicture(str(path), path.relative_to(root).parts[0]) for path in found]


def check_pictures(pictures: Sequence[LabelledPicture], limits: PictureLimits | None = None) -> list[LabelledPicture]:
    """Refuses what can't be trained on, before anything slow is begun; reads each file once.

    Returns:
      The pictures without copies: a file with the same bytes as an earlier one could be in both splits, and the
      accuracy would be of pictures that the model has learnt by heart.
    Raises:
      UsageError: a picture that is named twice, is no picture, or is the copy of one with another label; fewer than
        two classes, or a class with one picture.
    """
    named: set[str] = set()
    for path, _ in pictures:
        if os.path.realpath(path) in named:
            raise UsageError(f"{path} is labelled twice; drop one of its lines")
        named.add(os.path.realpath(path))
    distinct: dict[bytes, LabelledPicture] = {}
    for picture in pictures:
        digest = _checked(picture.path, limits or PictureLimits())
        first = distinct.setdefault(digest, picture)
        if first.label != picture.label:
            raise UsageError(
                f"{first.path} and {picture.path} are the same file, once labelled {first.label!r} and once "
                f"{picture.label!r}; drop the wrong one"
            )
    counts = Counter(picture.label for picture in distinct.values())
    if len(counts) < 2:
        found = ", ".join(map(repr, counts)) or "none"
        raise UsageError(
            f"a classifier needs pictures of at least 2 classes, found {found}: add pictures of another class"
        )
    for label, count in sorted(counts.items()):
        if count < 2:
            raise UsageError(
                f"class {label!r} has 1 picture, but one to train on and one to validate on are needed: add pictures, "
                "or drop the class"
            )
    return list(distinct.values())


def _checked(path: str, limits: PictureLimits) -> bytes:
    """Digest of a file whose header says that it is a picture within the limits."""
    try:
        data = Path(path).read_bytes()
        inspect_picture(data, limits)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; mend or remove it, and its label") from error
    except PictureRejected as error:
        raise UsageError(f"{path}: {error.message}; mend or remove it, and its label") from error
    return hashlib.sha256(data).digest()


def unlabelled(pictures: Sequence[LabelledPicture], images: str) -> list[str]:
    """Files right in the picture folder that no label names; hidden ones don't count."""
    named = {os.path.realpath(picture.path) for picture in pictures}
    files = (path for path in Path(images).iterdir() if path.is_file() and not path.name.startswith("."))
    return sorted(path.name for path in files if os.path.realpath(path) not in named)


def stratified_split(
    pictures: Iterable[LabelledPicture], *, share: float, seed: int
) -> tuple[list[LabelledPicture], list[LabelledPicture]]:
    """Two disjoint lists; of each class about `share` is in the second, and at least one picture is in each."""
    by_label: dict[str, list[LabelledPicture]] = defaultdict(list)
    for picture in sorted(pictures):
        by_label[picture.label].append(picture)
    random_ = random.Random(seed)
    first: list[LabelledPicture] = []
    second: list[LabelledPicture] = []
    for label in sorted(by_label):
        one_class = by_label[label]
        random_.shuffle(one_class)
        count = min(max(1, round(share * len(one_class))), len(one_class) - 1)
        second += one_class[:count]
        first += one_class[count:]
    return first, second


def class_names(pictures: Iterable[LabelledPicture]) -> list[str]:
    """The labels in the order of the model's outputs: sorted."""
    return sorted({picture.label for picture in pictures})


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
