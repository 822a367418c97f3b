"""Three disjoint parts of the labelled images: training fits, validation chooses, test judges."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from serving.console.terminal import printable
from serving.errors import UsageError
from trainer.images.labelled_images import LabelledImage
from trainer.images.problems import listed
from trainer.images.split_names import SplitName

_SHOWN = 5
_ORDER: tuple[SplitName, ...] = ("training", "validation", "test")
_LEAST: dict[SplitName, int] = {"test": 2, "validation": 3}
"""Images of a class from which on it has one in the part."""


class Split(NamedTuple):
    """The three parts. No image, and no near duplicate of one, is in two of them."""

    training: list[LabelledImage]
    """Fits the model."""
    validation: list[LabelledImage]
    """Chooses when to stop, the temperature and the threshold; empty where every class is too small."""
    test: list[LabelledImage]
    """Judges: it is asked once, at the end, through the exported model."""

    def digest(self, digests: Mapping[str, str]) -> str:
        """SHA-256 of which image, by its content, is in which part.

        Args:
          digests: SHA-256 of each image's bytes, by path.
        """
        rows = sorted(f"{digests[image.path]} {number}\n" for number, part in enumerate(self) for image in part)
        return hashlib.sha256("".join(rows).encode()).hexdigest()


def split_images(
    images: Sequence[LabelledImage],
    digests: Mapping[str, str],
    near_duplicates: Sequence[tuple[str, ...]],
    *,
    validation_share: float,
    test_share: float,
    seed: int,
    note: Callable[[str], None] = lambda text: None,
) -> Split:
    """Splits each class by itself, so that each part has about the same share of it.

    Which part an image is in is decided by its content and the seed: a file that is renamed stays where it is, and most
    images stay when others are added. Images that look alike are in one part. A class of two images has one to train on
    and one to test on; one of three has one in each part.

    Args:
      images: checked; where one says its part, all images have to.
      digests: SHA-256 of each image's bytes, by path.
      near_duplicates: paths of images that look alike, in groups.
      validation_share: of each class, 0..0.5.
      test_share: of each class, 0..0.5.
      seed: another one gives another split.
      note: is told of classes that are too small for three parts, and of groups that had to be moved or parted.

    Raises:
      UsageError: the column `split` leaves images out, or a class has no image to train on.
    """
    if any(image.split for image in images):
        split = _as_told(images, near_duplicates, note)
    else:
        split = Split([*images], [], [])
    shares: dict[SplitName, float] = {"test": test_share, "validation": validation_share}
    absent: dict[SplitName, float] = {name: share for name, share in shares.items() if not getattr(split, name)}
    if absent:
        if any(image.split for image in split.training):
            note(f"no image is marked for {' or '.join(absent)}: a share of those to train on is taken")
        parted = _Splitting(split.training, digests, near_duplicates, note).run(absent, seed)
        split = Split(parted.training, split.validation or parted.validation, split.test or parted.test)
    missing = sorted({image.label for image in images} - {image.label for image in split.training})
    if missing:
        raise UsageError(listed([
            f"no image of class {printable(repr(label))} is trained on: add images, or drop the class"
            for label in missing
        ]))  # fmt: skip
    if not split.test:
        raise UsageError("no image is left to test on: add images")
    return split


def _as_told(
    images: Sequence[LabelledImage], near_duplicates: Sequence[tuple[str, ...]], note: Callable[[str], None]
) -> Split:
    """The split of the CSV's column."""
    silent = [image.path for image in images if image.split is None]
    if silent:
        raise UsageError(
            f"`labels`: the column split is empty for {len(silent):,} images, such as {printable(silent[0])}: write "
            "training, validation or test"
        )
    parts = {image.path: image.split for image in images}
    apart = [group for group in near_duplicates if len({parts[path] for path in group}) > 1]
    if apart:
        note(
            f"WARNING: the split that is given parts {len(apart):,} groups of images that look alike, such as "
            f"{', '.join(map(printable, apart[0][:2]))}: the accuracy will be too high"
        )
    return Split(*([image for image in images if image.split == name] for name in _ORDER))


class _Splitting:
    def __init__(
        self,
        images: Sequence[LabelledImage],
        digests: Mapping[str, str],
        near_duplicates: Sequence[tuple[str, ...]],
        note: Callable[[str], None],
    ) -> None:
        self._images, self._digests, self._note = images, digests, note
        self._counts = Counter(image.label for image in images)
        self._group = self._groups(near_duplicates)

    def run(self, shares: Mapping[SplitName, float], seed: int) -> Split:
        """Fills the test part of each class first, then validation, if they have a share; the rest is trained on."""
        units: dict[str, list[LabelledImage]] = defaultdict(list)
        for image in self._images:
            units[self._group.get(image.path, image.path)].append(image)
        order = sorted(units, key=lambda unit: min(self._place(image, seed) for image in units[unit]))
        wanted = {part: self._wanted(share, _LEAST[part]) for part, share in shares.items()}
        taken: dict[SplitName, dict[str, int]] = {part: defaultdict(int) for part in shares}
        left = Counter(self._counts)
        parts: dict[SplitName, list[LabelledImage]] = {"training": [], "validation": [], "test": []}
        for unit in order:
            counts = Counter(image.label for image in units[unit])
            chosen: SplitName = "training"
            for part in shares:
                fits = all(
                    taken[part][label] + count <= wanted[part][label] and left[label] - count >= 1
                    for label, count in counts.items()
                )
                if fits:
                    chosen = part
                    for label, count in counts.items():
                        taken[part][label] += count
                        left[label] -= count
                    break
            parts[chosen] += units[unit]
        self._tell(taken)
        return Split(*(sorted(parts[name]) for name in _ORDER))

    def _wanted(self, share: float, least: int) -> dict[str, int]:
        """How many images of each class, at least one of a class of `least` images."""
        return {label: 0 if count < least else max(1, round(share * count)) for label, count in self._counts.items()}

    def _place(self, image: LabelledImage, seed: int) -> str:
        return hashlib.sha256(f"{seed} {self._digests[image.path]}".encode()).hexdigest()

    def _groups(self, near_duplicates: Sequence[tuple[str, ...]]) -> dict[str, str]:
        """The group of each image, but of groups that are most of a class, which could not be split."""
        labels = {image.path: image.label for image in self._images}
        groups: dict[str, str] = {}
        for all_alike in near_duplicates:
            group = [path for path in all_alike if path in labels]
            counts = Counter(labels[path] for path in group)
            large = [label for label, count in counts.items() if 2 * count > self._counts[label]]
            if large:
                self._note(
                    f"WARNING: {counts[large[0]]} of the {self._counts[large[0]]} images of class {large[0]!r} look "
                    f"alike, such as {', '.join(map(printable, group[:2]))}: they may be in more than one part, which "
                    "makes the accuracy of this class too high"
                )
            else:
                groups |= dict.fromkeys(group, group[0])
        return groups

    def _tell(self, taken: Mapping[SplitName, Mapping[str, int]]) -> None:
        for name, counts in taken.items():
            without = sorted(label for label in self._counts if not counts.get(label))
            if without:
                names = ", ".join(map(repr, without[:_SHOWN])) + (", …" if len(without) > _SHOWN else "")
                self._note(
                    f"{len(without):,} classes are too small to have an image in the {name} part: {names}; add images"
                )
