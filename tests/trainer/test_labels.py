"""Which picture shows what, and every way in which that can be unclear."""

import shutil
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from serving.errors import UsageError
from serving.pictures import PictureLimits
from trainer.labels import LabelledPicture, check_pictures, read_folder, read_labels, stratified_split, unlabelled


def picture(path: Path, shade: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (shade, 10, 20)).save(path)
    return path


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Four different pictures, a.jpg to d.jpg."""
    for shade, name in enumerate("abcd"):
        picture(tmp_path / "images" / f"{name}.jpg", 60 * shade)
    return tmp_path / "images"


def csv_file(folder: Path, text: str | bytes) -> str:
    path = folder / "labels.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return str(path)


def test_kaggles_layout(images: Path, tmp_path: Path) -> None:
    read = read_labels(csv_file(tmp_path, "id,breed\na,pug\nb,boxer\n"), str(images))
    assert read == [(str(images / "a.jpg"), "pug"), (str(images / "b.jpg"), "boxer")]


def test_a_csv_of_paths_keeps_commas_quotes_and_other_columns_apart(images: Path, tmp_path: Path) -> None:
    odd = picture(images / 'c, "1".jpg')
    text = f'\ufeffnote,path,label\nx,"{str(odd).replace(chr(34), chr(34) * 2)}","pug, small"\n'
    assert read_labels(csv_file(tmp_path, text)) == [(str(odd), "pug, small")]


def test_relative_paths_of_a_csv_are_looked_for_in_images(images: Path, tmp_path: Path) -> None:
    assert read_labels(csv_file(tmp_path, "path,label\na.jpg,x\n"), str(images)) == [(str(images / "a.jpg"), "x")]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param("id,breed\na,pug\nzz,pug\n", ["line 3", "zz.jpg", "drop the line"], id="no-picture"),
        pytest.param("id,breed\na,\n", ["line 2", "a.jpg", "no label"], id="no-label"),
        pytest.param("id,breed\n,pug\n", ["line 2", "'pug'", "no picture"], id="label-without-id"),
        pytest.param("id,breed\na,pug,big\n", ["line 2", "2 values"], id="too-many-values"),
        pytest.param("id,breed\na\n", ["line 2", "2 values"], id="too-few-values"),
        pytest.param('id,breed\na,"pug\n', ["line 2", "quotes"], id="open-quote"),
        pytest.param("name,kind\na,pug\n", ["id,breed or path,label", "name,kind"], id="other-columns"),
        pytest.param("", ["found none"], id="empty"),
        pytest.param("id,breed\na,dépôt\n".encode("latin-1"), ["line 2", "not UTF-8"], id="latin-1"),
    ],
)
def test_a_csv_that_is_not_right_names_the_line_and_the_fix(
    images: Path, tmp_path: Path, text: str | bytes, told: list[str]
) -> None:
    path = csv_file(tmp_path, text)
    with pytest.raises(UsageError) as error:
        read_labels(path, str(images))
    for words in [path, *told]:
        assert words in str(error.value)


def test_a_csv_that_is_missing_or_needs_images_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere\.csv: No such file"):
        read_labels(str(tmp_path / "nowhere.csv"))
    with pytest.raises(UsageError, match="--images"):
        read_labels(csv_file(tmp_path, "id,breed\na,pug\n"))


def test_a_folder_a_class_leaves_hidden_files_out(tmp_path: Path) -> None:
    for name in ("pug/1.jpg", "pug/more/2.png", "boxer/3.jpg", ".thumbs/4.jpg", "boxer/.DS_Store"):
        picture(tmp_path / name) if name.endswith("g") else (tmp_path / name).write_text("")
    found = [(Path(path).name, label) for path, label in read_folder(str(tmp_path))]
    assert found == [("3.jpg", "boxer"), ("1.jpg", "pug"), ("2.png", "pug")]


def test_a_picture_beside_the_class_folders_is_refused(tmp_path: Path) -> None:
    picture(tmp_path / "pug" / "1.jpg")
    stray = picture(tmp_path / "stray.jpg")
    with pytest.raises(UsageError, match=f"{stray} is in no class"):
        read_folder(str(tmp_path))
    with pytest.raises(UsageError, match="no such folder"):
        read_folder(str(tmp_path / "absent"))


def labelled(images: Path, labels: str) -> list[LabelledPicture]:
    return [LabelledPicture(str(images / f"{name}.jpg"), label) for name, label in zip("abcd", labels, strict=True)]


def test_sound_pictures_pass(images: Path) -> None:
    assert check_pictures(labelled(images, "xxyy")) == labelled(images, "xxyy")


@pytest.mark.parametrize(
    ("labels", "told"), [("xxxx", "at least 2 classes, found 'x'"), ("xxxy", "class 'y' has 1 picture")]
)
def test_classes_that_cannot_be_learnt_are_named(images: Path, labels: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        check_pictures(labelled(images, labels))


def test_no_pictures_at_all() -> None:
    with pytest.raises(UsageError, match="found none"):
        check_pictures([])


def test_a_picture_named_twice_is_refused_however_it_is_written(images: Path) -> None:
    twice = LabelledPicture(f"{images}/../images/a.jpg", "x")
    with pytest.raises(UsageError, match=r"images/\.\./images/a\.jpg is labelled twice"):
        check_pictures([*labelled(images, "xxyy"), twice])


def test_copies_of_a_file_count_once_and_must_agree(images: Path) -> None:
    shutil.copy(images / "a.jpg", images / "e.jpg")
    copy = str(images / "e.jpg")
    assert check_pictures([*labelled(images, "xxyy"), LabelledPicture(copy, "x")]) == labelled(images, "xxyy")
    with pytest.raises(UsageError, match=r"a\.jpg and .*e\.jpg are the same file, once labelled 'x' and once 'y'"):
        check_pictures([*labelled(images, "xxyy"), LabelledPicture(copy, "y")])


def test_a_file_that_is_no_picture_or_too_large_is_named(images: Path) -> None:
    (images / "b.jpg").write_text("<html>")
    with pytest.raises(UsageError, match=r"b\.jpg: the bytes are not a picture.*mend or remove it"):
        check_pictures(labelled(images, "xxyy"))
    with pytest.raises(UsageError, match=r"a\.jpg: 8 x 8 pixels, over the limit"):
        check_pictures(labelled(images, "xxyy"), PictureLimits(max_pixels=10))


def test_files_without_a_label_are_found(images: Path) -> None:
    (images / ".hidden").write_text("")
    assert unlabelled(labelled(images, "xxyy")[:2], str(images)) == ["c.jpg", "d.jpg"]


@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 0.99])
@pytest.mark.parametrize("seed", [0, 1])
def test_no_picture_is_in_two_splits_and_every_class_is_in_both(share: float, seed: int) -> None:
    pictures = [LabelledPicture(f"{label}{i}", label) for label, count in (("a", 2), ("b", 7), ("c", 40))
                for i in range(count)]  # fmt: skip
    training, validation = stratified_split(pictures, share=share, seed=seed)
    assert sorted(training + validation) == sorted(pictures)
    assert set(training).isdisjoint(validation)
    for part in (training, validation):
        assert {label for _, label in part} == {"a", "b", "c"}
    kept = Counter(label for _, label in validation)
    assert abs(kept["c"] - share * 40) <= 1


def test_the_split_depends_on_the_seed_and_not_on_the_order() -> None:
    pictures = [LabelledPicture(f"{label}{i}", label) for label in "ab" for i in range(20)]
    first = stratified_split(pictures, share=0.5, seed=1)
    assert stratified_split(pictures[::-1], share=0.5, seed=1) == first
    assert stratified_split(pictures, share=0.5, seed=2) != first
