"""What is wrong with labelled images is told, all at once, before anything is trained."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from serving.errors import UsageError
from serving.images.limits import ImageLimits
from trainer.images.check import check_images
from trainer.images.labelled_images import LabelledImage
from trainer.images.problems import Problem
from trainer.progress import Progress


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Four different images, a.jpg to d.jpg."""
    (tmp_path / "images").mkdir()
    for shade, name in enumerate("abcd"):
        Image.new("RGB", (8, 8), (60 * shade, 10, 20)).save(tmp_path / "images" / f"{name}.jpg")
    return tmp_path / "images"


def labelled(images: Path, labels: str) -> list[LabelledImage]:
    return [LabelledImage(str(images / f"{name}.jpg"), label) for name, label in zip("abcd", labels, strict=True)]


def noise(seed: int) -> Image.Image:
    """An image that is like no other."""
    rough = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), np.uint8)
    return Image.fromarray(rough).resize((90, 90), Image.Resampling.BICUBIC)


def test_sound_images_pass(images: Path) -> None:
    assert check_images(labelled(images, "xxyy")).images == labelled(images, "xxyy")


@pytest.mark.parametrize(
    ("labels", "told"), [("xxxx", "at least 2 classes, found 'x'"), ("xxxy", "class 'y' has 1 image")]
)
def test_classes_that_cannot_be_learnt_are_named(images: Path, labels: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        check_images(labelled(images, labels))


def test_no_images_at_all() -> None:
    with pytest.raises(UsageError, match="found none"):
        check_images([])


def test_an_image_named_twice_is_refused_however_it_is_written(images: Path) -> None:
    twice = LabelledImage(f"{images}/../images/a.jpg", "x")
    with pytest.raises(UsageError, match=r"images/\.\./images/a\.jpg is labelled twice"):
        check_images([*labelled(images, "xxyy"), twice])


def test_a_step_is_over_when_its_count_is_full(images: Path) -> None:
    """What is noted of the images then comes after that, and not beside a bar that is not full."""

    class Told(Progress):
        steps: list[tuple[str, int | None]] = []  # noqa: RUF012
        done = 0

        def begin(self, step: str, total: int | None = None) -> None:
            self.steps.append((step, total))

        def advance(self, count: int = 1) -> None:
            self.done += count

    told = Told()
    twice = LabelledImage(f"{images}/../images/a.jpg", "x")
    check_images([*labelled(images, "xxyy"), twice], skip_bad=True, progress=told)
    assert told.steps == [("reading and checking 4 images", 4), ("comparing the images with one another", None)]
    assert told.done == 4


def test_copies_of_a_file_count_once_and_must_agree(images: Path) -> None:
    shutil.copy(images / "a.jpg", images / "e.jpg")
    copy = str(images / "e.jpg")
    checked = check_images([*labelled(images, "xxyy"), LabelledImage(copy, "x")])
    assert checked.images == labelled(images, "xxyy")
    assert [one.path for one in checked.card.copies] == [copy]
    with pytest.raises(UsageError, match=r"a\.jpg and .*e\.jpg are the same file, once labelled 'x' and once 'y'"):
        check_images([*labelled(images, "xxyy"), LabelledImage(copy, "y")])


def test_a_file_that_is_no_image_or_too_large_is_named(images: Path) -> None:
    (images / "b.jpg").write_text("<html>")
    with pytest.raises(UsageError, match=r"b\.jpg: the bytes are not an image.*repair or remove it"):
        check_images(labelled(images, "xxyy"))
    with pytest.raises(UsageError, match=r"a\.jpg: 8 x 8 pixels, over the limit"):
        check_images(labelled(images, "xxyy"), limits=ImageLimits(max_image_pixels=10))


def test_a_class_of_copies_says_that_they_are_copies(images: Path) -> None:
    for name in "efg":
        shutil.copy(images / "d.jpg", images / f"{name}.jpg")
    copies = [LabelledImage(str(images / f"{name}.jpg"), "y") for name in "efg"]
    with pytest.raises(
        UsageError, match=r"class 'y' has 1 image \(of 4 files the others are copies or can't be used\)"
    ):
        check_images([*labelled(images, "xxxy"), *copies])


def test_a_path_under_two_labels_is_told_with_both(images: Path) -> None:
    twice = LabelledImage(str(images / "a.jpg"), "y")
    with pytest.raises(UsageError, match=r"a\.jpg is labelled twice, as 'x' and as 'y'; drop one of its lines"):
        check_images([*labelled(images, "xxyy"), twice])


def test_links_to_one_image_are_copies_of_it(images: Path) -> None:
    (images / "e.jpg").symlink_to(images / "a.jpg")
    linked = LabelledImage(str(images / "e.jpg"), "x")
    assert check_images([*labelled(images, "xxyy"), linked]).images == labelled(images, "xxyy")


def test_all_problems_are_listed_and_can_be_skipped(images: Path) -> None:
    whole = noise(1).resize((300, 300))
    for number in range(3):
        noise(10 + number).save(images / f"{number}.jpg")
    whole.save(images / "cut.jpg")
    (images / "cut.jpg").write_bytes((images / "cut.jpg").read_bytes()[:-2000])
    shutil.copy(images / "0.jpg", images / "same.jpg")
    (images / "text.jpg").write_text("<html>")
    there = [
        *labelled(images, "xxyy"),
        *(LabelledImage(str(images / name), label) for name, label in
          [("0.jpg", "x"), ("same.jpg", "y"), ("cut.jpg", "x"), ("text.jpg", "y"), ("1.jpg", "alone")]),
    ]  # fmt: skip
    gone = Problem("missing", (str(images / "gone.jpg"),), "there is no image gone.jpg")
    with pytest.raises(UsageError) as error:
        check_images(there, problems=[gone])
    told = str(error.value)
    assert told.startswith(
        "5 problems with the images (`skip_bad` leaves such images out):\n- there is no image gone.jpg"
    )
    for words in (
        "cut.jpg is damaged and can't be decoded",
        "text.jpg: the bytes are not",
        "same file",
        "'alone' has 1",
    ):
        assert words in told
    checked = check_images(there, problems=[gone], skip_bad=True)
    assert checked.images == labelled(images, "xxyy")
    assert {Path(one.path).name for one in checked.card.left_out} == {
        "gone.jpg", "0.jpg", "same.jpg", "cut.jpg", "text.jpg", "1.jpg",
    }  # fmt: skip


def test_an_image_under_two_labels_is_in_neither_class(images: Path) -> None:
    twice = [*labelled(images, "xxyy"), LabelledImage(str(images / "a.jpg"), "y")]
    with pytest.raises(UsageError, match=r"a\.jpg is labelled twice, as 'x' and as 'y'"):
        check_images(twice)
    Image.new("RGB", (8, 8), (5, 200, 20)).save(images / "e.jpg")
    checked = check_images([*twice, LabelledImage(str(images / "e.jpg"), "x")], skip_bad=True)
    assert str(images / "a.jpg") not in checked.digests


def test_the_card_tells_of_rotation_and_wrong_endings(images: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    noise(1).save(images / "a.jpg", exif=turned)
    noise(2).save(images / "b.jpg", format="PNG")
    card = check_images(labelled(images, "xxyy"), unlabelled=["z.jpg"]).card
    assert card.rotated == (str(images / "a.jpg"),)
    assert card.wrong_endings == (str(images / "b.jpg"),)
    assert card.formats == {"JPEG": 3, "PNG": 1}
    assert (card.images, card.classes, card.unlabelled) == (4, {"x": 2, "y": 2}, ("z.jpg",))
    assert (card.width.least, card.width.most) == (8, 90)


def test_the_digest_depends_on_contents_and_labels_alone(images: Path) -> None:
    first = check_images(labelled(images, "xxyy")).digest
    assert check_images(labelled(images, "xxyy")[::-1]).digest == first
    (images / "a.jpg").rename(images / "z.jpg")
    moved = [LabelledImage(str(images / "z.jpg"), "x"), *labelled(images, "xxyy")[1:]]
    assert check_images(moved).digest == first
    swapped = [moved[0]._replace(label="y"), *moved[1:3], moved[3]._replace(label="x")]
    assert check_images(swapped).digest != first


def test_images_that_look_alike_are_grouped_also_across_labels(images: Path) -> None:
    for number in range(4):
        noise(number).save(images / f"{'abcd'[number]}.jpg")
    noise(0).resize((60, 60)).save(images / "small.png")
    there = [*labelled(images, "xxyy"), LabelledImage(str(images / "small.png"), "y")]
    checked = check_images(there)
    assert checked.near_duplicates == [(str(images / "a.jpg"), str(images / "small.png"))]
    assert checked.card.alike_across_labels == tuple(checked.near_duplicates)
