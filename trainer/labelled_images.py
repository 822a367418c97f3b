"""Reads and checks labelled images: Kaggle's layout, a folder a class, or a CSV of paths. No TensorFlow in here."""

import hashlib
import os
import random
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from serving.console.terminal import printable
from serving.errors import UsageError
from serving.images.limits import ImageLimits, ImageRejected, inspect_image
from serving.storage.base import scheme
from serving.storage.local_file import TooLarge, read_file
from trainer.class_folders import IMAGE_ENDINGS, find_images
from trainer.labels_csv import read_label_file
from trainer.similar_labels import Label, check_labels

Note = Callable[[str], None]
"""Tells the user, in a sentence, something that needs no action."""


class LabelledImage(NamedTuple):
    """An image file and the class that it shows."""

    path: str
    label: str


def _ignore(sentence: str) -> None:
    pass


def read_labels(
    labels: str, images: str | None = None, note: Note = _ignore, local: Callable[[str], str] = str
) -> list[LabelledImage]:
    """Images of a CSV: Kaggle's `id,breed` with `<images>/<id>.jpg`, or `path,label`.

    Relative paths are taken from the working directory, or from `images` where it is given. An id that ends as
    image files do may be the whole name of one.

    Args:
      labels: the CSV, on this machine.
      images: the folder of the images, on this machine.
      note: is told what a user should know.
      local: gives the copy, on this machine, of an image that the CSV names in a bucket.

    Raises:
      UsageError: the file, the folder, a column or an image is missing, a row has no label, or two labels look alike.
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
    for image, label, where in rows:
        path = local(image) if scheme(image) else os.path.join(images or "", image)
        if has_ids and image.lower().endswith(IMAGE_ENDINGS):
            path = _of_whole_name(path, where)
            by_whole_name.append(path)
        elif has_ids:
            path += ".jpg"
        if not label:
            raise UsageError(f"{where}: the image {printable(path)} has no label; write one behind it")
        if not os.path.isfile(path):
            raise UsageError(f"{where}: {_missing(path)}; mend the path (or `images`), or drop the line")
        first.setdefault(label, Label(label, where))
        labelled.append(LabelledImage(path, label))
    if by_whole_name:
        note(f"ids that end as files do were taken for these: {_examples(by_whole_name)}")
    check_labels(first.values(), note)
    return labelled


def read_folder(folder: str, note: Note = _ignore) -> list[LabelledImage]:
    """Images of a folder with one folder a class; see `trainer.class_folders` for what is taken, refused or left out.

    Raises:
      UsageError: something in the folder can't be taken, or two classes look alike.
    """
    found = find_images(folder)
    for reason, paths in found.left_out.items():
        note(f"{reason}, left out of {printable(folder)}: {_examples(paths)}")
    classes = sorted({label for _, label in found.images})
    check_labels((Label(name, f"the folder {printable(os.path.join(folder, name))}") for name in classes), note)
    return [LabelledImage(*image) for image in found.images]


def _check_folder(images: str) -> None:
    try:
        os.scandir(images).close()
    except OSError as error:
        raise UsageError(f"`images` {printable(images)}: {error.strerror}") from error


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
    return said + (f", but there is {printable(os.path.join(folder, near[0]))}" if near else "")


def _stem(name: str) -> str:
    """A file's name as it may be meant: without endings, case and blanks around it."""
    name = unicodedata.normalize("NFC", name).strip().lower()
    while name.endswith(IMAGE_ENDINGS):
        name = name.rpartition(".")[0].strip()
    return name


def _examples(paths: Sequence[str]) -> str:
    return f"{len(paths)}: {', '.join(map(printable, paths[:3]))}" + (", …" if len(paths) > 3 else "")


def check_images(images: Sequence[LabelledImage], limits: ImageLimits | None = None) -> list[LabelledImage]:
    """Refuses what can't be trained on, before anything slow is begun; reads each file once.

    Returns:
      The images without copies: a file with the same bytes as an earlier one, or a link to it, could be in both
      splits, and the accuracy would count images that the model was trained on.

    Raises:
      UsageError: an image that is named twice, is no image, or is the copy of one with another label; fewer than
        two classes, or a class with one image.
    """
    named: set[str] = set()
    for path, _ in images:
        absolute = os.path.abspath(path)
        if absolute in named:
            raise UsageError(f"{printable(path)} is labelled twice; drop one of its lines")
        named.add(absolute)
    distinct: dict[bytes, LabelledImage] = {}
    for image in images:
        digest = _checked(image.path, limits or ImageLimits())
        first = distinct.setdefault(digest, image)
        if first.label != image.label:
            raise UsageError(
                f"{printable(first.path)} and {printable(image.path)} are the same file, once labelled "
                f"{first.label!r} and once {image.label!r}; drop the wrong one"
            )
    counts = Counter(image.label for image in distinct.values())
    if len(counts) < 2:
        found = ", ".join(map(repr, counts)) or "none"
        raise UsageError(f"a classifier needs images of at least 2 classes, found {found}: add images of another class")
    for label, count in sorted(counts.items()):
        if count < 2:
            raise UsageError(
                f"class {label!r} has 1 image, but one to train on and one to validate on are needed: add images, "
                "or drop the class"
            )
    return list(distinct.values())


def _checked(path: str, limits: ImageLimits) -> bytes:
    """Digest of a file whose header says that it is an image within the limits."""
    try:
        data = read_file(path, limits.max_image_bytes)
        inspect_image(data, limits)
    except TooLarge as error:
        found = f"{error.args[0]:,} bytes, " if error.args else ""
        reason = f"{found}over the limit of {limits.max_image_bytes:,}"
        raise UsageError(f"{printable(path)}: {reason}; mend or remove it, and its label") from error
    except OSError as error:
        raise UsageError(f"{printable(path)}: {error.strerror}; mend or remove it, and its label") from error
    except ImageRejected as error:
        reason = error.message.partition(" (`")[0]  # the limits can't be set here
        raise UsageError(f"{printable(path)}: {reason}; mend or remove it, and its label") from error
    return hashlib.sha256(data).digest()


def read_again(path: str) -> bytes:
    """The bytes of an image that was checked.

    Raises:
      UsageError: it is gone, or can't be read any more.
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


def stratified_split(
    images: Iterable[LabelledImage], *, share: float, seed: int
) -> tuple[list[LabelledImage], list[LabelledImage]]:
    """Two disjoint lists; of each class about `share` is in the second, and at least one image is in each."""
    by_label: dict[str, list[LabelledImage]] = defaultdict(list)
    for image in sorted(images):
        by_label[image.label].append(image)
    chance = random.Random(seed)
    first: list[LabelledImage] = []
    second: list[LabelledImage] = []
    for label in sorted(by_label):
        one_class = by_label[label]
        chance.shuffle(one_class)
        count = min(max(1, round(share * len(one_class))), len(one_class) - 1)
        second += one_class[:count]
        first += one_class[count:]
    return first, second


def class_names(images: Iterable[LabelledImage]) -> list[str]:
    """The labels in the order of the model's outputs: sorted."""
    return sorted({image.label for image in images})
