"""Images that look alike: one photo in two sizes, saved again, cropped a little or mirrored.

A perceptual hash proposes pairs, and the correlation of small grey copies decides. Of 22,000 pairs of different images
(150 photos of dogs, 150 drawn textures) none passes both.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import imagehash
import numpy as np
from PIL import Image, ImageOps

Array = np.ndarray[Any, np.dtype[Any]]

_MOST_BITS = 18
"""So many of the 64 bits may differ between the hashes of two images; those of different photos mostly differ by 32."""
_LEAST_CORRELATION = 0.6
_SURE = 0.9
"""Correlation from which a pair joins any groups."""
_LARGEST_UNSURE = 10
"""Images that a group may have by pairs below: where all images are much alike, as X-rays are, such pairs would chain
most of them to one group."""
_MOST_CANDIDATES = 32
"""Each image is compared with so many of those with the nearest hashes, which bounds time and memory."""
_SIDE = 32
"""Pixels of a small copy."""
_LEAST_CONTRAST = 2.0
"""Standard deviation, of 255, below which an image shows nothing to compare."""
_BLOCK = 1024


class Fingerprint(NamedTuple):
    """What two images are compared by."""

    bits: int
    """Perceptual hash of 64 bits (DCT of the grey image)."""
    mirrored_bits: int
    """The same of the mirrored image."""
    thumbnail: Array
    """float32 [32 * 32], grey, of mean 0 and length 1."""


def fingerprint(image: Image.Image) -> Fingerprint | None:
    """The fingerprint of an image, as its EXIF tag turns it; None if it is of one shade."""
    grey = ImageOps.exif_transpose(image).convert("L")
    small = np.asarray(grey.resize((_SIDE, _SIDE), Image.Resampling.BOX), np.float32)
    if small.std() < _LEAST_CONTRAST:
        return None
    small = small - small.mean()
    return Fingerprint(_hash(grey), _hash(ImageOps.mirror(grey)), (small / np.linalg.norm(small)).ravel())


def near_duplicates(fingerprints: Sequence[Fingerprint | None]) -> list[tuple[int, ...]]:
    """Groups of images that look alike, directly or through others.

    Args:
      fingerprints: of all images; None is like nothing.

    Returns:
      Positions, at least two a group, rising; the groups by their first.
    """
    known = [number for number, one in enumerate(fingerprints) if one is not None]
    found = [one for one in fingerprints if one is not None]
    if not found:
        return []
    bits = np.array([one.bits for one in found], np.uint64)
    mirrored_bits = np.array([one.mirrored_bits for one in found], np.uint64)
    thumbnails = np.stack([one.thumbnail for one in found])
    mirrored = thumbnails.reshape(-1, _SIDE, _SIDE)[:, :, ::-1].reshape(len(found), -1)
    pairs: list[tuple[float, int, int]] = []
    for others, views in ((bits, thumbnails), (mirrored_bits, mirrored)):
        for start in range(0, len(found), _BLOCK):
            first, second = _candidates(bits[start : start + _BLOCK], others, start)
            alike = np.einsum("ij,ij->i", thumbnails[first], views[second])
            kept = alike >= _LEAST_CORRELATION
            pairs += zip(alike[kept].tolist(), first[kept].tolist(), second[kept].tolist(), strict=True)
    groups = _Groups(len(found))
    for alike_by, one, other in sorted(pairs, key=lambda pair: (-pair[0], *pair[1:])):
        groups.join(one, other, most=None if alike_by >= _SURE else _LARGEST_UNSURE)
    return [tuple(known[number] for number in group) for group in groups.found()]


def _candidates(bits: Array, others: Array, start: int) -> tuple[Array, Array]:
    """Images of a block that begins at a place, and later images with near hashes: two arrays of one length."""
    distances = np.bitwise_count(bits[:, np.newaxis] ^ others)
    ahead = np.arange(len(others)) > np.arange(start, start + len(bits))[:, np.newaxis]
    near = (distances <= _MOST_BITS) & ahead
    if near.sum(axis=1).max() > _MOST_CANDIDATES:
        distances[~near] = np.iinfo(distances.dtype).max
        nearest = np.argpartition(distances, _MOST_CANDIDATES, axis=1)[:, :_MOST_CANDIDATES]
        chosen = np.zeros_like(near)
        np.put_along_axis(chosen, nearest, True, axis=1)
        near &= chosen
    first, second = np.nonzero(near)
    return first + start, second


def _hash(grey: Image.Image) -> int:
    return int(str(imagehash.phash(grey)), 16)


class _Groups:
    """Disjoint sets of numbers (Tarjan 1975)."""

    def __init__(self, count: int) -> None:
        self._parents = list(range(count))
        self._sizes = [1] * count

    def join(self, one: int, other: int, most: int | None = None) -> None:
        """Makes the sets of two numbers one, unless that would have more than so many numbers."""
        one, other = sorted((self._root(one), self._root(other)))
        size = self._sizes[one] + self._sizes[other]
        if one != other and (most is None or size <= most):
            self._parents[other], self._sizes[one] = one, size

    def found(self) -> list[list[int]]:
        """Sets of at least two."""
        sets: dict[int, list[int]] = {}
        for number in range(len(self._parents)):
            sets.setdefault(self._root(number), []).append(number)
        return [one for one in sets.values() if len(one) > 1]

    def _root(self, number: int) -> int:
        while self._parents[number] != number:
            self._parents[number] = self._parents[self._parents[number]]
            number = self._parents[number]
        return number
