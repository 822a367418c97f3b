"""Reads labelled images: Kaggle's layout, a folder a class, or a CSV of paths. No TensorFlow in here."""

import os
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from serving.console.terminal import printable
from serving.errors import UsageError
from serving.images.header import IMAGE_ENDINGS
from serving.storage.base import scheme
from serving.storage.local_file import why_unreadable
from trainer.images.class_folders import find_images
from trainer.images.label_check import Label, check_labels
from trainer.images.labels_csv import read_label_file
from trainer.images.problems import OnProblem, Problem, refuse
from trainer.images.split_names import SplitName

_FORMS: tuple[Literal["NFC"], Literal["NFD"]] = ("NFC", "NFD")
Note = Callable[[str], None]
"""Tells the user, in a sentence, something that needs no action."""


class LabelledImage(NamedTuple):
    """An image file and the class that it shows."""

    path: str
    label: str
    split: SplitName | None = None
    """Where the CSV's column `split` says which part the image belongs to."""
    columns: tuple[tuple[str, str], ...] = ()
    """The CSV's other columns, as (name, value): slices that the model is measured on."""


def _ignore(sentence: str) -> None:
    pass


def read_labels(
    labels: str,
    images: str | None = None,
    note: Note = _ignore,
    local: Callable[[str], str] = str,
    on_problem: OnProblem = refuse,
) -> list[LabelledImage]:
    """Images of a CSV: Kaggle's `id,breed` with `<images>/<id>.jpg`, or `path,label`.

    Relative paths are taken from the working directory, or from `images` where it is given. An id that ends as
    image files do may be the whole name of one.

    Args:
      labels: the CSV, on this machine.
      images: the folder of the images, on this machine.
      note: is told what a user should know.
      local: gives the copy, on this machine, of an image that the CSV names in a bucket.
      on_problem: is told of rows without a label or an image, which are left out; by default the first one is raised.

    Raises:
      UsageError: the file, the folder or a column is missing, or two labels look alike.
    """
    if images is not None:
        _check_folder(images)
    rows, has_ids = read_label_file(labels)
    if has_ids and images is None:
        raise UsageError(
            f"`labels` {printable(labels)} has the columns id,breed: say where the images are with `images`"
        )
    labelled: list[LabelledImage] = []
    first: dict[str, Label] = {}
    by_whole_name: list[str] = []
    for image, label, where, split, columns in rows:
        path = local(image) if scheme(image) else os.path.join(images or "", image)
        if has_ids and image.lower().endswith(IMAGE_ENDINGS):
            path = _of_whole_name(path, where)
            by_whole_name.append(path)
        elif has_ids:
            path += ".jpg"
        if not label:
            told = f"{where}: the image {printable(path)} has no label; write one behind it"
            on_problem(Problem("no label", (path,), told))
        elif not os.path.isfile(path):
            told = f"{where}: {_missing(path)}; correct the path (or `images`), or drop the line"
            on_problem(Problem("missing", (path,), told))
        else:
            first.setdefault(label, Label(label, where))
            labelled.append(LabelledImage(path, label, split, columns))
    if by_whole_name:
        note(f"ids that end like file names were taken as file names: {_examples(by_whole_name)}")
    check_labels(first.values(), note)
    return labelled


def read_folder(
    folder: str, note: Note = _ignore, on_problem: OnProblem = refuse, *, for_training: bool = True
) -> list[LabelledImage]:
    """Images of a folder with one folder a class; `trainer.images.class_folders` says what is taken, and what refused.

    Args:
      folder: on this machine.
      note: is told what a user should know.
      on_problem: is told of what can't be taken and is left out; by default the first one is raised.
      for_training: whether the folder may be a split, `train/CLASS` beside `validation/CLASS`.

    Raises:
      UsageError: the folder can't be taken, or two classes look alike.
    """
    found = find_images(folder, on_problem, for_training=for_training)
    if found.parts:
        said = ", ".join(f"{printable(name)} ({part})" for name, part in found.parts.items())
        note(f"{printable(folder)} is a split, and taken as that: {said}")
    for reason, paths in found.left_out.items():
        entries = "1 entry is" if len(paths) == 1 else f"{len(paths)} entries are"
        note(f"{printable(folder)}: {entries} left out ({reason}): {_names(paths)}")
    places: dict[str, Label] = {}
    for image in found.images:
        if image.label not in places:
            part = next((name for name, kind in found.parts.items() if kind == image.split), "")
            places[image.label] = Label(image.label, f"the folder {printable(os.path.join(folder, part, image.label))}")
    check_labels([places[name] for name in sorted(places)], note)
    return [LabelledImage(*image) for image in found.images]


def _check_folder(images: str) -> None:
    try:
        os.scandir(images).close()
    except OSError as error:
        raise UsageError(f"`images` {printable(images)}: {why_unreadable(error, 'folder')}") from error


def _of_whole_name(path: str, where: str) -> str:
    """The image of an id that ends in `.jpg` or the like: that file, or the one with another `.jpg` behind it."""
    both = [there for there in (path, path + ".jpg") if os.path.isfile(there)]
    if len(both) == 2:
        raise UsageError(
            f"{where}: the id may mean {printable(both[0])} or {printable(both[1])}; remove one of them, or name paths "
            "in columns path,label"
        )
    return both[0] if both else path


def _missing(path: str) -> str:
    """A message for an image that isn't there, with a file that may be meant."""
    if os.path.lexists(path):
        return f"{printable(path)} is {'a link that leads nowhere' if os.path.islink(path) else 'no file'}"
    folder, name = os.path.split(path.replace("\\", "/"))
    try:
        near = sorted(there for there in os.listdir(folder or ".") if _stem(there) == _stem(name))
    except OSError:
        near = []
    said = f"there is no image {printable(path)}"
    if not near:
        return said
    form = next((form for form in _FORMS if near[0] == unicodedata.normalize(form, name)), None)
    if form is not None:
        return f"{said}, but one whose accents have another Unicode form ({form})"
    return f"{said}, but there is {printable(os.path.join(folder, near[0]))}"


def _stem(name: str) -> str:
    """A file's name as it may be meant: without endings, case and blanks around it."""
    name = unicodedata.normalize("NFC", name).strip().lower()
    while name.endswith(IMAGE_ENDINGS):
        name = name.rpartition(".")[0].strip()
    return name


def _examples(paths: Sequence[str]) -> str:
    return f"{len(paths)}: {_names(paths)}"


def _names(paths: Sequence[str]) -> str:
    """The first three, so that a line stays short."""
    return ", ".join(map(printable, paths[:3])) + (", …" if len(paths) > 3 else "")


def read_again(path: str) -> bytes:
    """The bytes of an image that was checked.

    Raises:
      UsageError: it is gone, or can no longer be read.
    """
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"{printable(path)}: {error.strerror}, though it was there when the run began") from error


def unlabelled(labelled: Sequence[LabelledImage], images: str) -> list[str]:
    """Entries of the image folder that no label names: files, and folders without a labelled image.

    Hidden ones don't count.
    """
    named = {os.path.realpath(image.path) for image in labelled}
    folders = {os.path.dirname(path) + os.sep for path in named}
    found = []
    with os.scandir(images) as entries:
        for entry in entries:
            real = os.path.realpath(entry.path)
            if entry.name.startswith(".") or real in named:
                continue
            if not entry.is_dir():
                found.append(entry.name)
            elif not any(folder.startswith(real + os.sep) for folder in folders):
                found.append(entry.name + os.sep)
    return sorted(found)


def class_names(images: Iterable[LabelledImage]) -> list[str]:
    """The labels in the order of the model's outputs: sorted."""
    return sorted({image.label for image in images})
