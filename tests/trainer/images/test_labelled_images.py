"""Which image shows what, and every way in which that can be unclear."""

import os
import shutil
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import pytest
from PIL import Image

from serving.errors import UsageError
from trainer.images.check import check_images
from trainer.images.labelled_images import LabelledImage, read_folder, read_labels, unlabelled
from trainer.images.problems import Problem


def image(path: Path, shade: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (shade, 10, 20)).save(path)
    return path


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Four different images, a.jpg to d.jpg."""
    for shade, name in enumerate("abcd"):
        image(tmp_path / "images" / f"{name}.jpg", 60 * shade)
    return tmp_path / "images"


def csv_file(folder: Path, text: str | bytes) -> str:
    path = folder / "labels.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return str(path)


def test_kaggles_layout(images: Path, tmp_path: Path) -> None:
    read = read_labels(csv_file(tmp_path, "id,breed\na,pug\nb,boxer\n"), str(images))
    assert read == [LabelledImage(str(images / "a.jpg"), "pug"), LabelledImage(str(images / "b.jpg"), "boxer")]


def test_a_csv_of_paths_keeps_commas_quotes_and_other_columns_apart(images: Path, tmp_path: Path) -> None:
    odd = image(images / 'c, "1".jpg')
    text = f'\ufeffnote,path,label\nx,"{str(odd).replace(chr(34), chr(34) * 2)}","pug, small"\n'
    (read,) = read_labels(csv_file(tmp_path, text))
    assert read == LabelledImage(str(odd), "pug, small", None, (("note", "x"),))


def test_relative_paths_of_a_csv_are_looked_for_in_images(images: Path, tmp_path: Path) -> None:
    (read,) = read_labels(csv_file(tmp_path, "path,label\na.jpg,x\n"), str(images))
    assert read == LabelledImage(str(images / "a.jpg"), "x")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param("id,breed\na,pug\nzz,pug\n", ["line 3", "zz.jpg", "drop the line"], id="no-image"),
        pytest.param("id,breed\na,\n", ["line 2", "a.jpg", "no label"], id="no-label"),
        pytest.param("id,breed\n,pug\n", ["line 2", "'pug'", "no image"], id="label-without-id"),
        pytest.param("id,breed\na,pug,big\n", ["line 2", "2 values"], id="too-many-values"),
        pytest.param("id,breed\na\n", ["line 2", "2 values"], id="too-few-values"),
        pytest.param('id,breed\na,"pug\n', ["line 2", "quotes"], id="open-quote"),
        pytest.param("name,kind\na,pug\n", ["id,breed or path,label", "name,kind"], id="other-columns"),
        pytest.param("", ["found none"], id="empty"),
        pytest.param("id,breed\n\n", ["names no image"], id="no-lines"),
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
    with pytest.raises(UsageError, match=r"nowhere\.csv: no such file"):
        read_labels(str(tmp_path / "nowhere.csv"))
    with pytest.raises(UsageError, match="`images`"):
        read_labels(csv_file(tmp_path, "id,breed\na,pug\n"))


def test_a_folder_a_class_leaves_hidden_files_out(tmp_path: Path) -> None:
    for name in ("pug/1.jpg", "pug/more/2.png", "boxer/3.jpg", ".thumbs/4.jpg", "boxer/.DS_Store"):
        image(tmp_path / name) if name.endswith("g") else (tmp_path / name).write_text("")
    found = [(Path(path).name, label) for path, label, *_ in read_folder(str(tmp_path))]
    assert found == [("3.jpg", "boxer"), ("1.jpg", "pug"), ("2.png", "pug")]


def test_an_image_beside_the_class_folders_is_refused(tmp_path: Path) -> None:
    image(tmp_path / "pug" / "1.jpg")
    stray = image(tmp_path / "stray.jpg")
    with pytest.raises(UsageError, match=f"{stray} is in no class"):
        read_folder(str(tmp_path))
    with pytest.raises(UsageError, match="no such folder"):
        read_folder(str(tmp_path / "absent"))


def labelled(images: Path, labels: str) -> list[LabelledImage]:
    return [LabelledImage(str(images / f"{name}.jpg"), label) for name, label in zip("abcd", labels, strict=False)]


def test_a_column_says_the_part_and_others_are_slices(images: Path, tmp_path: Path) -> None:
    text = "id,breed,split,place\na,pug,Train,indoors\nb,pug,val,outdoors\nc,pug,,indoors\nd,pug,test,indoors\n"
    read = read_labels(csv_file(tmp_path, text), str(images))
    assert [one.split for one in read] == ["training", "validation", None, "test"]
    assert read[1].columns == (("place", "outdoors"),)
    with pytest.raises(UsageError, match="line 2: the split 'x' is unknown; write training, validation or test"):
        read_labels(csv_file(tmp_path, "id,breed,split\na,pug,x\n"), str(images))


def test_all_lines_of_a_csv_that_cannot_be_right_are_told(images: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"3 problems with the labels:\n- .*line 2: .*\n- .*line 3: .*\n- .*line 4: "):
        read_labels(csv_file(tmp_path, "id,breed,split\na,pug,x\n,pug,test\nb,pug,y\n"), str(images))
    with pytest.raises(UsageError, match=r"2 problems with the labels:\n- .*line 2: .*\n- .*line 3: "):
        read_labels(csv_file(tmp_path, 'id,breed\na,"x "\nb," y"\n'), str(images))


def test_all_rows_that_cannot_be_used_are_told(images: Path, tmp_path: Path) -> None:
    problems: list[Problem] = []
    text = "id,breed\na,pug\nx,pug\nb,\ny,pug\n"
    read = read_labels(csv_file(tmp_path, text), str(images), on_problem=problems.append)
    assert [one.path for one in read] == [str(images / "a.jpg")]
    assert [problem.kind for problem in problems] == ["missing", "no label", "missing"]


def test_files_without_a_label_are_found(images: Path) -> None:
    (images / ".hidden").write_text("")
    (images / "gone.jpg").symlink_to("nowhere")
    (images / "more").mkdir()
    below = LabelledImage(str(image(images / "used" / "deep" / "e.jpg", 250)), "x")
    assert unlabelled([*labelled(images, "xxyy"), below], str(images)) == ["gone.jpg", "more/"]
    (images / "gone.jpg").unlink()
    (images / "more").rmdir()
    shutil.rmtree(images / "used")
    assert unlabelled(labelled(images, "xxyy")[:2], str(images)) == ["c.jpg", "d.jpg"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["unix", "dos", "old mac"])
@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "marked"])
def test_a_csv_may_have_a_mark_and_any_line_ends(images: Path, tmp_path: Path, mark: str, end: str) -> None:
    text = mark + end.join(["id,breed", "a,pug", "", "b,boxer", ""])
    assert [one.label for one in read_labels(csv_file(tmp_path, text), str(images))] == ["pug", "boxer"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param("id,breed\na,pug\n".encode("utf-16"), "is UTF-16: save it as UTF-8", id="utf-16"),
        pytest.param(b"id,breed\na,pu\0g\n", "bytes that are 0", id="zero"),
        pytest.param("id;breed\na;pug\n", "separated by semicolons; save it with commas", id="semicolons"),
        pytest.param("ID,Breed\na,pug\n", "small letters", id="header"),
        pytest.param("id, breed\na,pug\n", "remove the blanks around the column's name", id="blanks"),
        pytest.param("id,breed,breed\na,pug,x\n", "two columns are named 'breed'", id="twice"),
        pytest.param("id,breed\na,great dane, black\n", "line 2: expected 2 values", id="comma"),
    ],
)
def test_a_csv_that_was_saved_otherwise_says_how_to_save_it(
    images: Path, tmp_path: Path, text: str | bytes, told: str
) -> None:
    with pytest.raises(UsageError, match=told):
        read_labels(csv_file(tmp_path, text), str(images))


def test_what_is_no_file_or_folder_of_this_machine_is_refused(images: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    good = csv_file(tmp_path, "id,breed\na,pug\n")
    for labels, folder, told in [
        (str(tmp_path / "pipe"), images, r"`labels` .*pipe: not a file"),
        (str(images), images, "`labels` .*images: Is a directory"),
        (good, tmp_path / "absent", r"`images` .*absent: no such folder"),
        (good, good, r"`images` .*labels\.csv: Not a directory"),
    ]:
        with pytest.raises(UsageError, match=told):
            read_labels(labels, str(folder))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("great dane", "great  dane"), ("great dane", "great\u00a0dane"), ("pug", "p\u200bug"),
        ("caf\u00e9", "cafe\u0301"), ("great dane", "great\u3000dane"), ("\u2764", "\u2764\ufe0f"),
    ],
)  # fmt: skip
def test_labels_that_look_the_same_are_refused_with_both_lines(
    images: Path, tmp_path: Path, one: str, other: str
) -> None:
    path = csv_file(tmp_path, f'id,breed\na,"{one}"\nb,"{other}"\n')
    with pytest.raises(UsageError) as error:
        read_labels(path, str(images))
    assert "line 2" in str(error.value)
    assert "line 3" in str(error.value)
    assert ascii(one) in str(error.value)
    assert ascii(other) in str(error.value)


@pytest.mark.parametrize("label", ["y ", "\u00a0y", "a\nb", "\x1b[2Jy", "\u200b", "a\u2028b"])
def test_a_label_with_what_cannot_be_seen_is_refused(images: Path, tmp_path: Path, label: str) -> None:
    with pytest.raises(UsageError, match=r"the label '.*remove") as error:
        read_labels(csv_file(tmp_path, f'id,breed\na,"{label}"\n'), str(images))
    assert str(error.value).isprintable()


@pytest.mark.parametrize(("one", "other"), [("X", "x"), ("great_dane", "Great Dane"), ("\uff30ug", "Pug")])
def test_labels_that_are_nearly_the_same_are_told_and_stay_two(
    images: Path, tmp_path: Path, one: str, other: str
) -> None:
    notes: list[str] = []
    read = read_labels(csv_file(tmp_path, f"id,breed\na,{one}\nb,{other}\n"), str(images), notes.append)
    assert [one.label for one in read] == [one, other]
    assert "WARNING" in notes[0]
    assert one in notes[0]
    assert other in notes[0]


def test_a_label_that_is_like_no_other_is_taken_as_it_is(images: Path, tmp_path: Path) -> None:
    notes: list[str] = []
    labels = ["[red]", ":dog:", "می\u200cخواهم"]
    text = "id,breed\n" + "".join(f"{name},{label}\n" for name, label in zip("abc", labels, strict=True))
    assert [one.label for one in read_labels(csv_file(tmp_path, text), str(images), notes.append)] == labels
    assert notes == []


def test_ids_that_are_file_names_are_taken_and_told(images: Path, tmp_path: Path) -> None:
    image(images / "e.png")
    notes: list[str] = []
    read = read_labels(csv_file(tmp_path, "id,breed\na.jpg,pug\ne.png,pug\n"), str(images), notes.append)
    assert [one.path for one in read] == [str(images / "a.jpg"), str(images / "e.png")]
    assert f"2: {images / 'a.jpg'}, {images / 'e.png'}" in notes[0]
    image(images / "a.jpg.jpg")
    with pytest.raises(UsageError, match=r"line 2: the id may mean .*a\.jpg or .*a\.jpg\.jpg"):
        read_labels(csv_file(tmp_path, "id,breed\na.jpg,pug\n"), str(images))


@pytest.mark.parametrize("name", ["z.png", "Z.jpg", "z.jpeg"])
def test_a_missing_image_is_named_with_the_one_that_is_there(images: Path, tmp_path: Path, name: str) -> None:
    there = image(images / name)
    with pytest.raises(UsageError, match=f"no image {images / 'z.jpg'}, but there is {there}"):
        read_labels(csv_file(tmp_path, "id,breed\nz,pug\n"), str(images))


@pytest.mark.parametrize(("there", "asked"), [("NFD", "NFC"), ("NFC", "NFD")])
def test_a_missing_image_is_told_that_its_accents_have_another_form(
    images: Path, tmp_path: Path, there: Literal["NFC", "NFD"], asked: Literal["NFC", "NFD"]
) -> None:
    image(images / unicodedata.normalize(there, "é.jpg"))
    with pytest.raises(UsageError, match=rf"but one whose accents have another Unicode form \({there}\)"):
        read_labels(csv_file(tmp_path, f"id,breed\n{unicodedata.normalize(asked, 'é')},pug\n"), str(images))


def test_everything_in_a_folder_is_taken_or_counted(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    for shade, name in enumerate(["pug/1.jpg", "pug/deep/2.png", "pug/no_ending", "boxer/3.jpg"]):
        image(tmp_path / "x.png", shade).rename(tmp_path / "x")
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "x").rename(folder / name)
    image(tmp_path / "elsewhere" / "4.jpg")
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "boxer" / "5.jpg").symlink_to(tmp_path / "elsewhere" / "4.jpg")
    (folder / "pug" / "again").symlink_to(folder / "pug" / "deep")
    for name in ("README.txt", "pug/Thumbs.db", "pug/labels.csv", ".DS_Store", "boxer/.hidden", "boxer/empty"):
        (folder / name).write_text("" if name.endswith("empty") else "text")
    notes: list[str] = []
    found = [(Path(path).name, label) for path, label, *_ in read_folder(str(folder), notes.append)]
    assert sorted(found) == [
        ("1.jpg", "pug"), ("2.png", "pug"), ("3.jpg", "boxer"), ("4.jpg", "linked"), ("5.jpg", "boxer"),
        ("no_ending", "pug"),
    ]  # fmt: skip
    told = "\n".join(notes)
    for count in (
        "2 entries are left out (hidden)",
        "4 entries are left out (no images)",
        "1 entry is left out (links",
    ):
        assert f"{folder}: {count}" in told


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        pytest.param(lambda class_: (class_ / "back").symlink_to(class_.parent), "back leads back", id="loop"),
        pytest.param(lambda class_: (class_ / "own").symlink_to("own"), "own is a link that leads nowhere", id="own"),
        pytest.param(lambda class_: (class_ / "x.jpg").symlink_to("gone.jpg"), "x.jpg is a link that leads", id="link"),
        pytest.param(lambda class_: (class_.parent / "cat").symlink_to("gone"), "cat is a link that leads", id="class"),
        pytest.param(lambda class_: os.mkfifo(class_ / "x.jpg"), "x.jpg is neither a file", id="pipe"),
        pytest.param(lambda class_: (class_.parent / "cat").mkdir(), "class cat has no images", id="empty class"),
        pytest.param(
            lambda class_: os.mkdir(os.fsencode(class_.parent) + b"/d\xe9p"), r"d\\xe9p.* not UTF-8", id="latin-1 class"
        ),
    ],
)
def test_what_cannot_be_taken_of_a_folder_is_refused_by_name(
    tmp_path: Path, spoil: Callable[[Path], None], told: str
) -> None:
    for name in ("pug/1.jpg", "boxer/2.jpg"):
        image(tmp_path / "photos" / name)
    spoil(tmp_path / "photos" / "pug")
    with pytest.raises(UsageError, match=told):
        read_folder(str(tmp_path / "photos"))


def test_a_folder_or_file_that_may_not_be_read_is_refused_by_name(tmp_path: Path, nobody: Callable[[], None]) -> None:
    for name in ("pug/1.jpg", "boxer/2.jpg"):
        image(tmp_path / "photos" / name)
    (tmp_path / "photos" / "pug" / "1.jpg").chmod(0)
    (tmp_path / "photos" / "boxer").chmod(0)
    nobody()
    with pytest.raises(UsageError, match="boxer can't be read: Permission denied"):
        read_folder(str(tmp_path / "photos"))
    with pytest.raises(UsageError, match=r"1\.jpg: Permission denied"):
        check_images([LabelledImage(str(tmp_path / "photos" / "pug" / "1.jpg"), "pug")])


@pytest.fixture
def nobody(tmp_path: Path) -> Iterator[Callable[[], None]]:
    """Makes this process one that may not read everything, as root may, until the test ends."""
    user = os.geteuid()
    for folder in (tmp_path, *tmp_path.parents):
        if "pytest" in str(folder):  # pytest's own folders are the owner's only
            folder.chmod(0o755)
    yield lambda: os.seteuid(65534) if user == 0 else None
    os.seteuid(user)
