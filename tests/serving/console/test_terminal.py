"""What comes from files and servers is shown as it is, and a terminal acts on none of it."""

import os
from collections.abc import Iterator
from typing import TextIO

import pytest

from serving.console.terminal import console, fitted, paragraph, printable, show_table
from tests.terminal import terminal


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J\x1b]0;owned\x07", r"\x1b[2J\x1b]0;owned\x07"),
        ("a\r\nb\tc", r"a\x0d\x0ab\x09c"),
        ("b\x9b2Jc", r"b\x9b2Jc"),
        ("gnp\u202egpj", r"gnp\u202egpj"),
        (b"lat\xe9.jpg".decode("utf-8", "surrogateescape"), r"lat\xe9.jpg"),
        ("half \ud83d", r"half \ud83d"),
        ("[red]dog[/red] :dog: café 犬", "[red]dog[/red] :dog: café 犬"),
    ],
)
def test_only_what_a_terminal_acts_on_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown
    shown.encode()


def test_a_name_cannot_fake_a_message_of_its_own() -> None:
    assert paragraph("x: a\nflow-images: all is well\n") == "x: a\n  flow-images: all is well"


def test_tables_show_markup_as_text_and_no_control_codes(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.table import Table

    table = Table("[bold]a[/bold]", title=":dog: \x1b[2J")
    table.add_row("[/red]\x1b[2J :cat:")
    console().print(table)
    out = capsys.readouterr().out
    assert r"[/red]\x1b[2J :cat:" in out
    assert "[bold]a[/bold]" in out
    assert r":dog: \x1b[2J" in " ".join(out.split())
    assert "\x1b" not in out


@pytest.fixture
def narrow() -> Iterator[TextIO]:
    """A terminal of 40 columns."""
    ours, its = terminal(40)
    with open(its, "w", encoding="utf-8") as stream:
        yield stream
    os.close(ours)


def test_a_long_line_is_broken_between_words_on_a_terminal(narrow: TextIO) -> None:
    text = "flow-images predict: --input photos: no such file or folder; did you mean photo?\n  a: b"
    assert fitted(text, narrow).split("\n") == [
        "flow-images predict: --input photos: no",
        "  such file or folder; did you mean",
        "  photo?",
        "  a: b",
    ]


def test_a_path_stays_whole(narrow: TextIO) -> None:
    path = "/home/ann/" + "very-long-name/" * 3 + "predictions.csv"
    assert path in fitted(f"predictions: {path}", narrow).split("  ")


def test_a_log_keeps_one_line_a_message() -> None:
    text = "word " * 40
    with open(os.devnull, "w", encoding="utf-8") as stream:
        assert fitted(text, stream) == text


def test_a_table_in_a_file_has_no_blanks_at_the_ends_of_lines(capsys: pytest.CaptureFixture[str]) -> None:
    from rich import box
    from rich.table import Table

    table = Table("label", "images", box=box.SIMPLE_HEAD)
    table.add_row("pug", "3")
    table.add_row("dog " * 40, "12")
    show_table(table)
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line != line.rstrip()] == []
    assert any(line.split() == ["dog"] * 40 + ["12"] for line in lines)  # in one line: a file has no width
