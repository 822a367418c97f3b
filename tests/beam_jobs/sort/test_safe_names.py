"""Names that every file system takes."""

import unicodedata

import pytest

from beam_jobs.sort.safe_names import MOST_BYTES, marked, needs_mark, safe_name, same_name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("n02085620-Chihuahua", "n02085620-Chihuahua"),
        ("Reh (Bock)", "Reh (Bock)"),
        ("a/b", "a_b"),
        ("..", "__"),
        (".", "_"),
        ("", "_"),
        ("../../etc", "___.._etc"),
        (".hidden", "_hidden"),
        ("end. ", "end__"),
        ("nul\0byte\n", "nul_byte_"),
        ('<>:"\\|?*', "________"),
        ("con", "_con"),
        ("Aux.jpg", "_Aux.jpg"),
        ("LPT¹ .x", "_LPT¹ .x"),
        ("console", "console"),
        ("left\u202eright", "left_right"),
        (unicodedata.normalize("NFD", "Rüde"), unicodedata.normalize("NFC", "Rüde")),
    ],
    ids=range(17),
)
def test_what_a_name_may_not_have_is_replaced(text: str, name: str) -> None:
    assert safe_name(text) == name
    assert safe_name(name) == name


@pytest.mark.parametrize(
    ("one", "other"),
    [("Dog", "dOG"), ("é", "e\u0301"), ("STRASSE", "straße"), ("ﬁ", "fi"), ("a\u200db", "ab")],
    ids=["case", "form", "sharp-s", "ligature", "joiner"],
)
def test_names_that_some_file_system_takes_for_the_same(one: str, other: str) -> None:
    assert same_name(one) == same_name(other)


def test_a_mark_keeps_the_ending_and_tells_texts_apart() -> None:
    one, other = marked("a_b.jpg", "a/b.jpg"), marked("a_b.jpg", "a:b.jpg")
    assert one != other
    assert one.startswith("a_b~")
    assert one.endswith(".jpg")
    assert needs_mark(one)
    assert needs_mark(one.upper())
    assert not needs_mark("a_b.jpg")


@pytest.mark.parametrize("letter", ["x", "ä", "\N{DOG FACE}"], ids=["one", "two", "four"])
def test_a_long_name_is_cut_between_letters(letter: str) -> None:
    long = letter * 300 + ".jpeg"
    assert needs_mark(long)
    name = marked(long, long)
    assert MOST_BYTES - 4 < len(name.encode()) <= MOST_BYTES
    assert name.endswith(".jpeg")
    assert set(name.partition("~")[0]) == {letter}
