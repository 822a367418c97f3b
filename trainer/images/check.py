"""Checks labelled images before anything slow is begun; each file is read and decoded once."""

import hashlib
import io
import os
import statistics
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

from PIL import ExifTags, Image

from serving.console.terminal import printable
from serving.errors import UsageError
from serving.images.header import BMP, GIF, JPEG, PNG, WEBP
from serving.images.limits import ImageLimits, ImageRejected, inspect_image
from serving.storage.local_file import TooLarge, read_file
from serving.text.utf8_files import as_utf8
from trainer.images.data_card import DataCard, Extent, LeftOut
from trainer.images.labelled_images import LabelledImage
from trainer.images.near_duplicates import Fingerprint, fingerprint, near_duplicates
from trainer.images.problems import Problem, refuse_all
from trainer.progress import Progress

_ENDINGS = {
    ".jpg": JPEG,
    ".jpeg": JPEG,
    ".jpe": JPEG,
    ".jfif": JPEG,
    ".png": PNG,
    ".gif": GIF,
    ".bmp": BMP,
    ".webp": WEBP,
}
_DRAFT = (128, 128)
"""A JPEG is decoded at the smallest size that is not below."""


@dataclass(frozen=True)
class CheckedImages:
    """Images that can be trained on."""

    images: list[LabelledImage]
    """Without files of the same bytes."""
    digests: dict[str, str]
    """SHA-256 of each image's bytes, by path."""
    near_duplicates: list[tuple[str, ...]]
    """Paths of images that look alike, in groups."""
    card: DataCard

    @property
    def digest(self) -> str:
        """SHA-256 of all images' bytes and labels, whatever their names and order."""
        rows = sorted(f"{self.digests[image.path]} {image.label}\n" for image in self.images)
        return hashlib.sha256("".join(rows).encode()).hexdigest()


class _Seen(NamedTuple):
    """What one look at a file found."""

    digest: str
    size: int
    format: str
    width: int
    height: int
    is_rotated: bool
    fingerprint: Fingerprint | None


def check_images(
    images: Sequence[LabelledImage],
    *,
    problems: Sequence[Problem] = (),
    unlabelled: Sequence[str] = (),
    skip_bad: bool = False,
    for_training: bool = True,
    limits: ImageLimits | None = None,
    progress: Progress | None = None,
) -> CheckedImages:
    """Looks at each image, and at all of them together.

    A file with the same bytes as another one of the same label, or a link to it, is left out. Images that look alike
    are kept, in groups that a split doesn't part.

    Args:
      images: as they were read.
      problems: what was found when they were read.
      unlabelled: files that no label names, for the card.
      skip_bad: whether images that can't be used are left out, and classes with fewer than two images.
      for_training: whether there have to be two classes, and two images of each.
      limits: of images.
      progress: is told of each image.

    Raises:
      UsageError: images can't be used, and they are not to be skipped; or there are fewer than two classes.
    """
    progress = progress or Progress()
    found = [*problems]
    distinct = list(_once(images, found))
    progress.begin(f"reading and checking {len(distinct):,} images", len(distinct))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        looks = list(pool.map(lambda image: _look(image.path, limits or ImageLimits(), progress), distinct))
    progress.begin("comparing the images with one another")
    seen: dict[str, _Seen] = {}
    for image, look in zip(distinct, looks, strict=True):
        if isinstance(look, Problem):
            found.append(look)
        else:
            seen[image.path] = look
    usable, copies = _without_copies([image for image in distinct if image.path in seen], seen, found)
    if for_training:
        usable = _without_small_classes(usable, Counter(image.label for image in images), found)
    if not skip_bad:
        refuse_all(found)
    counts = Counter(image.label for image in usable)
    if len(counts) < (2 if for_training else 1):
        names = ", ".join(map(repr, counts)) or "none"
        if not for_training:
            raise UsageError("there is no image to evaluate on: add images")
        raise UsageError(f"a classifier needs images of at least 2 classes, found {names}: add images of another class")
    groups = [tuple(usable[place].path for place in group)
              for group in near_duplicates([seen[image.path].fingerprint for image in usable])]  # fmt: skip
    left_out = [
        LeftOut(path=as_utf8(path), reason=as_utf8(problem.message)) for problem in found for path in problem.paths
    ]
    card = _card(usable, seen, groups, copies=copies, left_out=left_out, unlabelled=unlabelled)
    return CheckedImages(usable, {image.path: seen[image.path].digest for image in usable}, groups, card)


def _once(images: Sequence[LabelledImage], problems: list[Problem]) -> Iterator[LabelledImage]:
    """Each file once: the first of those with one label, none of those with two."""
    named: dict[str, list[LabelledImage]] = defaultdict(list)
    for image in images:
        named[os.path.abspath(image.path)].append(image)
    for first, *others in named.values():
        labels = list(dict.fromkeys(image.label for image in (first, *others)))
        if len(labels) == 1:
            yield first
        if others:
            left_out = (first.path,) if len(labels) > 1 else ()
            as_what = f", as {labels[0]!r} and as {labels[1]!r}" if len(labels) > 1 else ""
            told = f"{printable(others[0].path)} is labelled twice{as_what}; drop one of its lines"
            problems.append(Problem("labelled twice", left_out, told))


def _look(path: str, limits: ImageLimits, progress: Progress) -> _Seen | Problem:
    """Reads a file, and decodes it at a small size."""
    fix = "repair or remove it, and its label"
    try:
        data = read_file(path, limits.max_image_bytes)
        header = inspect_image(data, limits)
    except TooLarge as error:
        size = f"{error.args[0]:,} bytes, " if error.args else ""
        return Problem("not an image", (path,), f"{printable(path)}: {size}over the limit of "
                       f"{limits.max_image_bytes:,}; {fix}")  # fmt: skip
    except OSError as error:
        return Problem("not an image", (path,), f"{printable(path)}: {error.strerror}; {fix}")
    except ImageRejected as error:
        reason = error.message.partition(" (`")[0]  # the limits can't be set here
        return Problem("not an image", (path,), f"{printable(path)}: {reason}; {fix}")
    finally:
        progress.advance()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on sizes, which the limits are for, and on odd EXIF data
            with Image.open(io.BytesIO(data)) as image:
                rotated = image.getexif().get(ExifTags.Base.Orientation, 1) not in (0, 1)
                image.draft("RGB", _DRAFT)
                prints = fingerprint(image)
    except Exception as error:  # Pillow's decoders raise whatever they meet
        reason = str(error).partition("\n")[0].partition(" (")[0]
        return Problem("damaged", (path,), f"{printable(path)} is damaged and can't be decoded ({reason}); {fix}")
    return _Seen(
        hashlib.sha256(data).hexdigest(), len(data), header.format, header.width, header.height, rotated, prints
    )


def _without_copies(
    images: Sequence[LabelledImage], seen: dict[str, _Seen], problems: list[Problem]
) -> tuple[list[LabelledImage], list[LeftOut]]:
    """The first image of each content, and the others; contents under two labels are problems."""
    same: dict[str, list[LabelledImage]] = defaultdict(list)
    for image in images:
        same[seen[image.path].digest].append(image)
    usable, copies = [], []
    for first, *others in same.values():
        other = next((one for one in others if one.label != first.label), None)
        if other is not None:
            paths = tuple(image.path for image in (first, *others))
            problems.append(Problem(
                "two labels", paths, f"{printable(first.path)} and {printable(other.path)} are the same file, once "
                f"labelled {first.label!r} and once {other.label!r}; drop the wrong one"))  # fmt: skip
            continue
        usable.append(first)
        copies += [LeftOut(path=as_utf8(one.path), reason=as_utf8(f"the same file as {first.path}")) for one in others]
    return usable, copies


def _without_small_classes(
    images: list[LabelledImage], named: Mapping[str, int], problems: list[Problem]
) -> list[LabelledImage]:
    """The images of classes that have two; `named` are the files that each class was said to have."""
    counts = Counter(image.label for image in images)
    small = {label for label, count in counts.items() if count < 2} if len(counts) > 1 else set()
    for label in sorted(small):
        left = "" if named[label] < 2 else f" (of {named[label]:,} files the others are copies or can't be used)"
        problems.append(Problem(
            "small class", tuple(image.path for image in images if image.label == label),
            f"class {printable(repr(label))} has 1 image{left}, but one to train on and one to test on are needed: add "
            "images, or drop the class"))  # fmt: skip
    return [image for image in images if image.label not in small]


def _card(
    images: Sequence[LabelledImage],
    seen: dict[str, _Seen],
    groups: Sequence[tuple[str, ...]],
    *,
    copies: Sequence[LeftOut],
    left_out: Sequence[LeftOut],
    unlabelled: Sequence[str],
) -> DataCard:
    labels = {image.path: image.label for image in images}
    names = {path: as_utf8(path) for path in labels}
    looks = [(image.path, seen[image.path]) for image in images]
    return DataCard(
        images=len(images),
        classes=dict(sorted(Counter(labels.values()).items())),
        bytes=sum(look.size for _, look in looks),
        formats=dict(Counter(look.format for _, look in looks).most_common()),
        width=_extent([look.width for _, look in looks]),
        height=_extent([look.height for _, look in looks]),
        rotated=tuple(names[path] for path, look in looks if look.is_rotated),
        wrong_endings=tuple(names[path] for path, look in looks if _is_other_format(path, look.format)),
        copies=tuple(copies),
        near_duplicates=tuple(tuple(names[path] for path in group) for group in groups),
        alike_across_labels=tuple(
            tuple(names[path] for path in group) for group in groups if len({labels[path] for path in group}) > 1
        ),
        left_out=tuple(left_out),
        unlabelled=tuple(map(as_utf8, unlabelled)),
    )


def _is_other_format(path: str, found: str) -> bool:
    return _ENDINGS.get(os.path.splitext(path)[1].lower(), found) != found


def _extent(values: Sequence[int]) -> Extent:
    return Extent(least=min(values), median=round(statistics.median(values)), most=max(values))
