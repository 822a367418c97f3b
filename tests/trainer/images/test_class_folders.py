"""A folder is read as the classes, or as the split, that a user sees in it; what can't be is told, all at once."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from serving.errors import UsageError
from trainer.images.class_folders import find_images
from trainer.images.problems import Problem, refuse_all


def images(root: Path, *names: str) -> Path:
    for shade, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (shade, 10, 20)).save(root / name)
    return root


def split(root: Path, *parts: str) -> Path:
    return images(root, *(f"{part}/{label}/1.jpg" for part in parts for label in ("cat", "dog")))


@pytest.mark.parametrize(
    "names",
    [
        ("train", "validation", "test"), ("Train", "Valid", "Test"), ("training", "val", "testing"),
        ("training_set", "eval_set", "test_set"), ("seg_train", "dev", "seg_test"), ("TRAIN", "evaluation", "holdout"),
        ("train-images", "val images", "test.data"),
    ],
)  # fmt: skip
def test_parts_are_recognised_by_each_name_that_people_give_them(tmp_path: Path, names: tuple[str, ...]) -> None:
    found = find_images(str(split(tmp_path, *names)))
    assert found.parts == dict(zip(names, ("training", "validation", "test"), strict=True))
    assert sorted({(Path(path).parts[-3], label, part) for path, label, part in found.images}) == sorted(
        (name, label, part) for name, part in found.parts.items() for label in ("cat", "dog")
    )


@pytest.mark.parametrize("names", [("train", "validation"), ("train", "test"), ("Training", "Testing")])
def test_two_parts_are_a_split(tmp_path: Path, names: tuple[str, ...]) -> None:
    (split(tmp_path, *names) / "README.txt").write_text("notes")
    (tmp_path / ".git").mkdir()
    found = find_images(str(tmp_path))
    assert {label for _, label, _ in found.images} == {"cat", "dog"}
    assert set(found.parts) == set(names)
    assert found.left_out["no images"] == [str(tmp_path / "README.txt")]


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        pytest.param(("bus/1.jpg", "train/1.jpg", "tram/1.jpg"), {"bus", "train", "tram"}, id="railway"),
        pytest.param(("bus/1.jpg", "train/steam/1.jpg", "train/2.jpg"), {"bus", "train"}, id="railway of two kinds"),
        pytest.param(("bus/1.jpg", "test/1.jpg"), {"bus", "test"}, id="test"),
    ],
)
def test_a_class_may_have_the_name_of_a_part(tmp_path: Path, names: tuple[str, ...], labels: set[str]) -> None:
    found = find_images(str(images(tmp_path, *names)))
    assert {(label, part) for _, label, part in found.images} == {(label, None) for label in labels}


@pytest.mark.parametrize(
    ("make", "told"),
    [
        pytest.param(lambda root: split(root, "train"), "train, which is a part of a split and no class: give the part "
                     "as `folder`, such as ROOT/train", id="one part"),
        pytest.param(lambda root: split(root, "test", "val"), "test, val, which are parts", id="no train"),
        pytest.param(lambda root: images(split(root, "train"), "test/1.jpg"), "ROOT/test is a part of a split without "
                     "classes: move its images to ROOT/test/CLASS, or give the images to train on alone: `folder` "
                     "ROOT/train", id="images without labels"),
        pytest.param(lambda root: images(root, "train/cat.1.jpg", "test/1.jpg"), "ROOT/test is a part of a split "
                     "without classes", id="no classes at all"),
        pytest.param(lambda root: images(split(root, "train", "val"), "raw/1.jpg"), "is a split into train, val, but "
                     "also holds raw: move", id="something beside"),
        pytest.param(lambda root: split(root, "training_set/training_set", "test_set/test_set"), "in ROOT/test_set "
                     "there is test_set in place of classes: move", id="twice"),
    ],
)  # fmt: skip
def test_a_split_that_cannot_be_taken_names_the_way_out(
    tmp_path: Path, make: Callable[[Path], Path], told: str
) -> None:
    with pytest.raises(UsageError) as error:
        find_images(str(make(tmp_path)))
    assert told.replace("ROOT", str(tmp_path)) in str(error.value)


@pytest.mark.parametrize(
    ("parts", "measured"), [(("test", "train", "val"), "test"), (("train", "val"), "val"), (("train",), "train")]
)
def test_an_evaluation_is_told_to_name_the_part_to_measure(
    tmp_path: Path, parts: tuple[str, ...], measured: str
) -> None:
    with pytest.raises(UsageError, match=f"such as {split(tmp_path, *parts) / measured}$"):
        find_images(str(tmp_path), for_training=False)


def test_the_strange_in_a_part_is_told_as_in_a_class(tmp_path: Path) -> None:
    images(split(tmp_path, "train", "test"), "train/stray.jpg", "beside.jpg")
    (tmp_path / "test" / "cow").mkdir()
    problems: list[Problem] = []
    find_images(str(tmp_path), problems.append)
    assert [problem.message.partition(": ")[2] for problem in problems] == [
        f"{tmp_path}/beside.jpg is in no class; move it to {tmp_path}/CLASS/beside.jpg",
        "the class cow has no images; add some, or remove the folder",
        f"{tmp_path}/train/stray.jpg is in no class; move it to {tmp_path}/train/CLASS/stray.jpg",
    ]


def test_everything_that_cannot_be_taken_is_told_at_once(tmp_path: Path) -> None:
    images(tmp_path, "pug/1.jpg", "boxer/2.jpg", *(f"stray{number}.jpg" for number in range(25)))
    os.mkfifo(tmp_path / "pug" / "pipe")
    (tmp_path / "pug" / "own.jpg").symlink_to("own.jpg")
    (tmp_path / "pug" / "back").symlink_to(tmp_path)
    (tmp_path / "cat").mkdir()
    problems: list[Problem] = []
    found = find_images(str(tmp_path), problems.append)
    assert [(Path(image.path).name, image.label) for image in found.images] == [("2.jpg", "boxer"), ("1.jpg", "pug")]
    kinds = [problem.kind for problem in problems]
    assert sorted(set(kinds)) == ["missing", "no label", "small class", "unreadable"]
    assert (len(kinds), kinds.count("no label")) == (29, 25)
    with pytest.raises(UsageError) as error:
        refuse_all(problems)
    lines = str(error.value).splitlines()
    assert lines[0] == "29 problems with the images (`skip_bad` leaves such images out):"
    assert (len(lines), lines[-1]) == (22, "- and 9 more")
