"""A folder with one folder of images a class, or with such a folder for each part of a split.

Each entry is taken, refused, or left out and counted by its reason.
"""

import os
import stat
from collections import defaultdict
from typing import NamedTuple

from serving.console.terminal import printable
from serving.errors import UsageError
from serving.images.header import IMAGE_ENDINGS
from serving.images.limits import ImageLimits, ImageRejected, inspect_image
from serving.text.utf8_files import is_utf8
from trainer.images.problems import Kind, OnProblem, Problem, refuse
from trainer.images.split_names import SplitName, named_part

_DEEPEST = 100
_Identity = tuple[int, int]
"""Device and inode, which a folder has however it is reached."""


class FoundImage(NamedTuple):
    """An image, its class, and the part that its folder says, where the folder is a split already."""

    path: str
    label: str
    split: SplitName | None = None


class Found(NamedTuple):
    """What is in a folder: images, what is left out, by reason, and the folders of its parts."""

    images: list[FoundImage]
    left_out: dict[str, list[str]]
    parts: dict[str, SplitName]
    """Folders whose names say a part, such as `train` and `validation`; empty where all folders are classes."""


def find_images(folder: str, on_problem: OnProblem = refuse, *, for_training: bool = True) -> Found:
    """Every image of a folder, sorted, with the first folder of its path as its class; links are followed.

    A folder that holds `train/CLASS/…` beside `validation/CLASS/…` or `test/CLASS/…`, by these or similar names, is
    taken as the split that it is.

    Args:
      folder: on this machine.
      on_problem: is told of what can't be taken and is left out: an image in no class, a class without images, a folder
        that can't be read, a link that leads nowhere or back, a pipe. By default the first one is raised.
      for_training: whether a split is wanted. An evaluation measures one part, so there a split is refused.

    Raises:
      UsageError: the folder is missing or can't be read, or it is a split that can't be taken.
    """
    parts = _parts(folder, for_training=for_training)
    walk = _Walk(folder, on_problem, parts)
    for root, part in {os.path.join(folder, name): part for name, part in parts.items()}.items() or ((folder, None),):
        walk.classes(root, part)
    return walk.found


def _parts(folder: str, *, for_training: bool) -> dict[str, SplitName]:
    """The folders that are parts of a split, if these folders are not classes.

    A class may be called `train`, as railways have them: such a folder holds images, and other classes lie beside it.
    """
    folders = [entry.name for entry in _entries(folder) if not entry.name.startswith(".") and _is_folder(entry)]
    parts = {name: part for name in folders if (part := named_part(name))}
    others = [name for name in folders if name not in parts]
    if not parts or (others and not all(_has_classes(os.path.join(folder, name)) for name in parts)):
        return {}
    is_split = len(set(parts.values())) > 1 and "training" in parts.values()
    if others and not is_split:
        return {}
    named = f"`folder` {printable(folder)}"
    told = ", ".join(map(printable, parts))
    if not for_training or not is_split:
        wanted: tuple[SplitName, ...] = ("training",) if for_training else ("test", "validation")
        one = next((name for part in wanted for name in parts if parts[name] == part), next(iter(parts)))
        raise UsageError(
            f"{named} holds {told}, which {'are parts' if len(parts) > 1 else 'is a part'} of a split and no "
            f"{'classes' if len(parts) > 1 else 'class'}: give the part as `folder`, such as "
            f"{printable(os.path.join(folder, one))}"
        )
    if others:
        raise UsageError(
            f"{named} is a split into {told}, but also holds {', '.join(map(printable, others))}: move what is not "
            "a part elsewhere"
        )
    for name in parts:
        _check_part(folder, name, parts)
    return parts


def _check_part(folder: str, name: str, parts: dict[str, SplitName]) -> None:
    part = os.path.join(folder, name)
    inner = [entry.name for entry in _entries(part) if not entry.name.startswith(".") and _is_folder(entry)]
    if not inner:
        training = next(os.path.join(folder, other) for other, kind in parts.items() if kind == "training")
        way = "" if part == training else f", or give the images to train on alone: `folder` {printable(training)}"
        raise UsageError(
            f"`folder` {printable(folder)}: {printable(part)} is a part of a split without classes: move its images "
            f"to {printable(os.path.join(part, 'CLASS'))}{way}"
        )
    if all(map(named_part, inner)):
        raise UsageError(
            f"`folder` {printable(folder)}: in {printable(part)} there is {', '.join(map(printable, inner))} in place "
            f"of classes: move the folders of the classes up into {printable(part)}"
        )


def _has_classes(folder: str) -> bool:
    """Are there folders, and no images beside them?"""
    entries = [entry for entry in _entries(folder) if not entry.name.startswith(".")]
    files = [entry.name.lower() for entry in entries if not _is_folder(entry)]
    return len(files) < len(entries) and not any(name.endswith(IMAGE_ENDINGS) for name in files)


class _Walk:
    def __init__(self, folder: str, on_problem: OnProblem, parts: dict[str, SplitName]) -> None:
        self.found = Found([], defaultdict(list), parts)
        self._folder, self._on_problem = folder, on_problem
        self._seen: set[tuple[str, SplitName | None, _Identity]] = set()
        """The folders of each class that were walked; links may lead to one again."""
        if parts:
            for entry in _entries(folder):
                if not _is_folder(entry):
                    self._file(entry, None, None)

    def classes(self, root: str, part: SplitName | None) -> None:
        """Adds all classes of a folder, which is the whole or a part of a split."""
        info = os.stat(root)
        before = len(self.found.images)
        self._walk(root, None, part, ((info.st_dev, info.st_ino),))
        classes = {image.label for image in self.found.images[before:]}
        for entry in _entries(root):
            if (
                _is_folder(entry)
                and not entry.name.startswith(".")
                and is_utf8(entry.name)
                and entry.name not in classes
            ):
                self._tell("small class", f"`folder` {printable(root)}: the class {printable(entry.name)} has no "
                           "images; add some, or remove the folder")  # fmt: skip

    def _walk(self, folder: str, label: str | None, part: SplitName | None, above: tuple[_Identity, ...]) -> None:
        """Adds what is in a folder of a class, or in the root, whose label is None; it lies in the folders `above`."""
        try:
            entries = _listed(folder)
        except OSError as error:
            self._tell("unreadable", f"{printable(folder)} can't be read: {error.strerror}; let this user read it, or "
                       "remove it", folder)  # fmt: skip
            return
        for entry in entries:
            if entry.name.startswith("."):
                self.found.left_out["hidden"].append(entry.path)
            elif _is_folder(entry):
                self._inner(entry, label, part, above)
            else:
                self._file(entry, label, part)

    def _inner(
        self, entry: "os.DirEntry[str]", label: str | None, part: SplitName | None, above: tuple[_Identity, ...]
    ) -> None:
        if not label and not is_utf8(entry.name):
            self._tell("unreadable", f"the class folder {printable(entry.path)} has a name that is not UTF-8: rename "
                       "it", entry.path)  # fmt: skip
            return
        info, inner = entry.stat(), label or entry.name
        identity = info.st_dev, info.st_ino
        if identity in above or len(above) == _DEEPEST:
            self._tell("unreadable", f"{printable(entry.path)} leads back to a folder that it lies in; remove the link",
                       entry.path)  # fmt: skip
        elif (inner, part, identity) in self._seen:
            self.found.left_out["links to a folder of the same class"].append(entry.path)
        else:
            self._seen.add((inner, part, identity))
            self._walk(entry.path, inner, part, (*above, identity))

    def _file(self, entry: "os.DirEntry[str]", label: str | None, part: SplitName | None) -> None:
        path = entry.path
        if entry.name.startswith("."):
            self.found.left_out["hidden"].append(path)
            return
        try:
            mode = os.stat(path).st_mode
        except OSError as error:
            why = f"is a link that leads nowhere ({error.strerror})" if entry.is_symlink() else error.strerror
            self._tell("missing", f"{printable(path)} {why}; repair or remove it", path)
            return
        if not stat.S_ISREG(mode):
            self._tell("unreadable", f"{printable(path)} is neither a file nor a folder; remove it", path)
        elif not _is_image(path):
            self.found.left_out["no images"].append(path)
        elif label is None:
            place = os.path.join(os.path.dirname(path), "CLASS", entry.name)
            self._tell("no label", f"`folder` {printable(self._folder)}: {printable(path)} is in no class; move it to "
                       f"{printable(place)}", path)  # fmt: skip
        else:
            self.found.images.append(FoundImage(path, label, part))

    def _tell(self, kind: Kind, message: str, *paths: str) -> None:
        self._on_problem(Problem(kind, paths, message))


def _entries(folder: str) -> list["os.DirEntry[str]"]:
    """What is in the folder that the user named, or in a part or class of it."""
    try:
        return _listed(folder)
    except FileNotFoundError as error:
        raise UsageError(f"`folder` {printable(folder)}: no such folder") from error
    except NotADirectoryError as error:
        raise UsageError(
            f"`folder` {printable(folder)} is a file; name a folder with one folder a class, or give a CSV as `labels`"
        ) from error
    except OSError as error:
        raise UsageError(
            f"`folder` {printable(folder)} can't be read: {error.strerror}; let this user read it, or move the classes "
            "to a folder without it"
        ) from error


def _listed(folder: str) -> list["os.DirEntry[str]"]:
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    return os.path.isdir(entry.path)  # a link to itself is none, whereas entry.is_dir() raises


def _is_image(path: str) -> bool:
    """Is the file an image, by its name or by its bytes?"""
    if path.lower().endswith(IMAGE_ENDINGS):
        return True
    limits = ImageLimits()
    try:
        with open(path, "rb") as file:
            inspect_image(file.read(limits.max_image_bytes), limits)
    except OSError:
        return True  # to be named by whoever reads it
    except ImageRejected as error:
        return error.reason not in {"not_an_image", "empty"}
    return True
