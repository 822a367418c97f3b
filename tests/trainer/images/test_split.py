"""Three parts that share no image, and nothing that looks like one."""

import hashlib
import random
from collections import Counter
from collections.abc import Sequence

import pytest

from serving.errors import UsageError
from trainer.images.labelled_images import LabelledImage
from trainer.images.split import Split, split_images
from trainer.images.split_names import SplitName


def some(**counts: int) -> list[LabelledImage]:
    return [LabelledImage(f"{label}{number}", label) for label, count in counts.items() for number in range(count)]


def split(
    images: Sequence[LabelledImage],
    groups: Sequence[tuple[str, ...]] = (),
    *,
    seed: int = 0,
    share: float = 0.2,
    notes: list[str] | None = None,
) -> Split:
    digests = {image.path: hashlib.sha256(image.path.encode()).hexdigest() for image in images}
    note = (notes if notes is not None else []).append
    return split_images(images, digests, groups, validation_share=share, test_share=share, seed=seed, note=note)


@pytest.mark.parametrize("share", [0.01, 0.15, 0.4])
@pytest.mark.parametrize("seed", [0, 1])
def test_each_image_is_in_one_part_and_each_class_in_all(share: float, seed: int) -> None:
    images = some(a=3, b=7, c=100)
    parts = split(images, seed=seed, share=share)
    assert sorted(image.path for part in parts for image in part) == sorted(image.path for image in images)
    for part in parts:
        assert {image.label for image in part} == {"a", "b", "c"}
    for part in (parts.validation, parts.test):
        assert abs(Counter(image.label for image in part)["c"] - share * 100) <= 1


@pytest.mark.parametrize("seed", range(20))
def test_no_group_is_in_two_parts(seed: int) -> None:
    chance = random.Random(seed)
    images = some(a=30, b=50, c=12)
    paths = [image.path for image in images]
    chance.shuffle(paths)
    groups = [tuple(paths[start : start + 3]) for start in range(0, 45, 3)]
    parts = split(images, groups, seed=seed)
    place = {image.path: number for number, part in enumerate(parts) for image in part}
    assert len(place) == len(images)
    assert [group for group in groups if len({place[path] for path in group}) > 1] == []
    assert all({image.label for image in part} == {"a", "b", "c"} for part in parts)


def test_an_image_stays_where_it_is_whatever_its_name_and_the_order() -> None:
    images = some(a=40, b=40)
    parts = split(images)
    assert split(images[::-1]) == parts
    assert split(images, seed=1) != parts
    more = split([*images, *(LabelledImage(f"new{number}", "a") for number in range(4))])
    before = {image.path: number for number, part in enumerate(parts) for image in part}
    moved = [
        image.path for number, part in enumerate(more) for image in part if before.get(image.path, number) != number
    ]
    assert len(moved) <= 4


def test_small_classes_are_told() -> None:
    notes: list[str] = []
    parts = split(some(a=10, b=2, c=3), notes=notes)
    assert [Counter(image.label for image in part)["b"] for part in parts] == [1, 0, 1]
    assert [Counter(image.label for image in part)["c"] for part in parts] == [1, 1, 1]
    assert notes == ["1 classes are too small to have an image in the validation part: 'b'; add images"]


def test_a_class_that_looks_all_alike_is_parted_and_told() -> None:
    notes: list[str] = []
    images = some(a=10, b=4)
    parts = split(images, [("b0", "b1", "b2")], notes=notes)
    assert {image.label for image in parts.test} == {"a", "b"}
    assert "3 of the 4 images of class 'b' look alike, such as b0, b1" in notes[0]


def test_the_column_decides_where_it_is_there() -> None:
    told: list[SplitName] = ["training", "test", "training", "test", "training", "validation"]
    images = [image._replace(split=part) for image, part in zip(some(a=3, b=3), told, strict=True)]
    notes: list[str] = []
    parts = split(images, [("a0", "a1")], notes=notes)
    assert [[image.path for image in part] for part in parts] == [["a0", "a2", "b1"], ["b2"], ["a1", "b0"]]
    assert "WARNING: the split that is given parts 1 groups of images that look alike, such as a0, a1" in notes[0]
    with pytest.raises(UsageError, match="the column split is empty for 1 images, such as a0"):
        split([images[0]._replace(split=None), *images[1:]])
    with pytest.raises(UsageError, match="no image of class 'b' is trained on"):
        split([image._replace(split="test") if image.label == "b" else image for image in images])


@pytest.mark.parametrize("given", ["validation", "test"])
def test_a_part_that_is_not_given_is_taken_from_the_training_images(given: SplitName) -> None:
    images = [image._replace(split="training") for image in some(a=20, b=20)]
    told = [LabelledImage(f"{label}{given}{number}", label, given) for label in "ab" for number in range(5)]
    notes: list[str] = []
    parts = split([*images, *told], [("a0", "a1", f"a{given}0")], notes=notes)
    sizes = {"validation": 8, "test": 8, given: 10}
    assert [len(part) for part in parts] == [32, sizes["validation"], sizes["test"]]
    assert getattr(parts, given) == told
    absent = "test" if given == "validation" else "validation"
    assert f"no image is marked for {absent}: a share of those to train on is taken" in notes


def test_the_digest_tells_one_split_from_another() -> None:
    images = some(a=20, b=20)
    digests = {image.path: image.path for image in images}
    one, other = split(images), split(images, seed=1)
    assert one.digest(digests) == split(images).digest(digests)
    assert one.digest(digests) != other.digest(digests)
