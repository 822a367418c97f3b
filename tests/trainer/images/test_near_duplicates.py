"""The same image in another size, quality, crop or mirrored is found; other images are not taken for it."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from trainer.demo_data import TEXTURES, draw_image
from trainer.images.near_duplicates import Fingerprint, fingerprint, near_duplicates


def image(seed: int) -> Image.Image:
    """Smooth patches of colour, as a photo's coarse shapes."""
    rough = np.random.default_rng(seed).integers(0, 256, (7, 9, 3), np.uint8)
    return Image.fromarray(rough).resize((360, 280), Image.Resampling.BICUBIC)


def saved(image: Image.Image, quality: int) -> Image.Image:
    data = io.BytesIO()
    image.save(data, "JPEG", quality=quality)
    return Image.open(data)


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "half the size": lambda image: image.resize((180, 140)),
    "a third of the size": lambda image: saved(image.resize((120, 93)), 85),
    "quality 40": lambda image: saved(image, 40),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.15),
    "grey": lambda image: image.convert("L"),
    "cropped": lambda image: image.crop((11, 8, 349, 272)),
    "mirrored": ImageOps.mirror,
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_image_is_found(change: str) -> None:
    images = [image(seed) for seed in range(20)]
    changed = [CHANGES[change](one) for one in images]
    groups = near_duplicates([fingerprint(one) for one in [*images, *changed]])
    assert groups == [(number, number + 20) for number in range(20)]


def test_different_images_are_in_no_group() -> None:
    chance = np.random.default_rng(0)
    textures = [draw_image(texture, chance) for texture in TEXTURES for _ in range(10)]
    assert near_duplicates([fingerprint(one) for one in [*textures, *map(image, range(40))]]) == []


def test_images_of_one_shade_are_like_nothing() -> None:
    plain = [Image.new("RGB", (50, 50), (shade, 0, 0)) for shade in (10, 10, 200)]
    assert [fingerprint(one) for one in plain] == [None, None, None]
    assert near_duplicates([None, None]) == []


def test_what_looks_alike_through_others_is_one_group() -> None:
    chance = np.random.default_rng(0)
    thumbnail = chance.normal(size=1024).astype(np.float32)
    thumbnail /= np.linalg.norm(thumbnail)
    bits = int(chance.integers(2**62))
    chain = [Fingerprint(bits ^ (2 ** (10 * step) - 1), bits ^ (2**62 - 1), thumbnail) for step in (0, 1, 2, 3)]
    assert near_duplicates([chain[0], chain[3]]) == []
    assert near_duplicates(chain) == [(0, 1, 2, 3)]


def test_images_that_are_all_much_alike_are_not_one_group() -> None:
    """As X-rays are: one pattern, and as much again of each image's own."""
    chance = np.random.default_rng(0)
    common = chance.normal(size=1024)
    prints = []
    for _ in range(300):
        own = common + 0.7 * chance.normal(size=1024)  # correlations of about 0.67
        flips = sum(1 << int(bit) for bit in chance.choice(60, 8, replace=False))
        prints.append(Fingerprint(flips, 2**62 - 1 - flips, (own / np.linalg.norm(own)).astype(np.float32)))
    copies = [prints[number]._replace(bits=prints[number].bits ^ 1) for number in (5, 77)]
    groups = near_duplicates([*prints, *copies])
    assert max(map(len, groups)) <= 12
    place = {number: group for group in groups for number in group}
    assert place[5] == place[300]
    assert place[77] == place[301]


def test_real_photos_are_all_different(shared_data: Path) -> None:
    found = []
    for path in sorted((shared_data / "photos" / "train").iterdir()):
        with Image.open(path) as image:
            found.append(fingerprint(image))
            found.append(fingerprint(image.resize((image.width // 2, image.height // 2))))
    assert near_duplicates(found) == [(number, number + 1) for number in range(0, len(found), 2)]
