"""A folder with one folder of images a class. Each entry is taken, refused, or left out and counted by its reason."""

import os
import stat
from collections import defaultdict
from typing import NamedTuple

from serving.console.terminal import printable
from serving.errors import UsageError
from serving.images.limits import ImageLimits, ImageRejected, inspect_image
from serving.text_files import is_utf8

IMAGE_ENDINGS = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".dib", ".webp", ".tif", ".tiff", ".heic", ".heif",
    ".avif", ".jp2", ".jxl", ".svg", ".ico",
)  # fmt: skip
"""By which a user takes a file for an image, whether it can be decoded or not."""


_DEEPEST = 100


_Identity = tuple[int, int]
"""Of a folder, however it is reached: device and inode."""


class Found(NamedTuple):
    """What is in a folder: images as (path, class), and what is left out, by reason."""

    images: list[tuple[str, str]]
    left_out: dict[str, list[str]]


def find_images(folder: str) -> Found:
    """Every image of a folder, sorted, with the first folder of its path as its class; links are followed.

    Raises:
      UsageError: the folder is missing, or something in it can't be taken: an image in no class, a class without
        images, a folder that can't be read, a link that leads nowhere or back, a pipe.
    """
    found = Found([], defaultdict(list))
    root = _stat(folder) if os.path.lexists(folder) else None
    _walk(folder, None, ((root.st_dev, root.st_ino),) if root else (), set(), found)
    classes = {label for _, label in found.images}
    for entry in _entries(folder):
        if entry.is_dir() and not entry.name.startswith(".") and entry.name not in classes:
            raise UsageError(
                f"`folder` {printable(folder)}: the class {printable(entry.name)} has no images; add some, or "
                "remove the folder"
            )
    return found


def _walk(
    folder: str, label: str | None, above: tuple[_Identity, ...], seen: set[tuple[str, _Identity]], found: Found
) -> None:
    """Adds what is in a folder of a class, or in the root, whose label is None.

    Args:
      folder: to walk.
      label: of the class.
      above: the folders that it lies in.
      seen: the folders of each class that were walked; links may lead to one again.
      found: what to add to.
    """
    for entry in _entries(folder):
        if entry.name.startswith("."):
            found.left_out["hidden"].append(entry.path)
            continue
        info = _stat(entry.path)
        if stat.S_ISDIR(info.st_mode):
            identity, inner = (info.st_dev, info.st_ino), label or _class_name(entry)
            if identity in above or len(above) == _DEEPEST:
                raise UsageError(f"{printable(entry.path)} leads back to a folder that it lies in; remove the link")
            if (inner, identity) in seen:
                found.left_out["links to a folder of the same class"].append(entry.path)
                continue
            seen.add((inner, identity))
            _walk(entry.path, inner, (*above, identity), seen, found)
        elif not stat.S_ISREG(info.st_mode):
            raise UsageError(f"{printable(entry.path)} is neither a file nor a folder; remove it")
        elif not _is_image(entry.path):
            found.left_out["no images"].append(entry.path)
        elif label is None:
            raise UsageError(
                f"`folder` {printable(folder)}: {printable(entry.path)} is in no class; move it to "
                f"{printable(os.path.join(folder, 'CLASS', entry.name))}"
            )
        else:
            found.images.append((entry.path, label))


def _entries(folder: str) -> list["os.DirEntry[str]"]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
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


def _stat(path: str) -> os.stat_result:
    try:
        return os.stat(path)
    except OSError as error:
        is_link = os.path.islink(path)
        reason = f"is a link that leads nowhere ({error.strerror})" if is_link else f"can't be read: {error.strerror}"
        raise UsageError(f"{printable(path)} {reason}; mend or remove it") from error


def _class_name(entry: "os.DirEntry[str]") -> str:
    if not is_utf8(entry.name):
        raise UsageError(f"the class folder {printable(entry.path)} has a name that is not UTF-8: rename it")
    return entry.name


def _is_image(path: str) -> bool:
    """By its name, or by its bytes."""
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
