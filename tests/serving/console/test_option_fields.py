"""Options as fields: what is accepted, what is refused by which name, and what is told."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pytest

from serving.console.option_fields import Options, as_keywords, option, option_fields, options_class
from serving.errors import UsageError


@options_class
class Size(Options):
    width: int = option("Pixels.", default=3, least=1, most=2_000, is_recorded=True)


@options_class
class Job(Size):
    names: Sequence[str] = option("What to do.")
    rate: float = option("Share.", default=0.5, least=0, most=1, is_open=True)
    kind: Literal["a", "b"] | None = option("Which.", default=None, is_recorded=True)
    box: tuple[int, int] | None = option("Sides.", default=None, least=1, most=9)
    folder: str = option("Where.", default="out", flag="--out")
    quick: bool = option("Hurry.", default=False)
    secret: str = dataclasses.field(default="", repr=False)


def test_its_own_come_first_then_those_of_its_bases() -> None:
    assert list(option_fields(Job)) == ["names", "rate", "kind", "box", "folder", "quick", "width"]


def test_what_is_meant_is_accepted() -> None:
    job = Job(names=["x", Path("y")], folder=Path("p"), box=[2, 3], rate=0.25)  # type: ignore[list-item, arg-type]
    assert (job.names, job.folder, job.box, job.rate) == (("x", "y"), "p", (2, 3), 0.25)
    assert Job(names="alone").names == ("alone",)


@options_class
class Parsed(Options):
    size: int | None = option("Bytes.", default=None, parse=lambda text: int(text.removesuffix("B")), least=1)


def test_the_text_of_a_flag_is_accepted_too() -> None:
    assert Parsed(size="7B").size == Parsed(size=7).size == 7  # type: ignore[arg-type]
    for wrong in ("7x", "0B"):
        with pytest.raises(UsageError, match="`size`"):
            Parsed(size=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"width": 0}, "`width` must be from 1 to 2,000, not 0"),
        ({"width": 2_001}, "`width` must be from 1 to 2,000, not 2,001"),
        ({"width": "3"}, "`width` must be a whole number, not '3'"),
        ({"width": 3.0}, "`width` must be a whole number, not 3.0"),
        ({"width": True}, "`width` must be a whole number, not True"),
        ({"width": None}, "`width` must be a whole number, not None"),
        ({"rate": 1}, "`rate` must be more than 0 and less than 1, not 1"),
        ({"rate": float("nan")}, "`rate` must be more than 0 and less than 1, not nan"),
        ({"rate": "half"}, "`rate` must be a number, not 'half'"),
        ({"kind": "c"}, "`kind` must be a or b, not 'c'"),
        ({"box": (1, 10)}, "`box` must be from 1 to 9, not (1, 10)"),
        ({"box": (1, 2, 3)}, "`box` must be 2 whole numbers, not (1, 2, 3)"),
        ({"box": 3}, "`box` must be 2 whole numbers, not 3"),
        ({"folder": 7}, "`folder` must be text or a path, not 7"),
        ({"folder": b"x"}, "`folder` must be text or a path, not b'x'"),
        ({"quick": 1}, "`quick` must be True or False, not 1"),
        ({"names": [1]}, "`names` must be a list, not [1]"),
    ],
    ids=str,
)
def test_a_wrong_value_is_told_by_its_field(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError) as found:
        Job(**{"names": ["x"]} | wrong)
    assert str(found.value) == says
    with pytest.raises(UsageError):
        dataclasses.replace(Job(names=["x"]), **wrong)


def test_a_part_is_a_value_of_its_own_class() -> None:
    assert Job(names=["x"], width=8).part(Size) == Size(width=8)
    assert type(Job(names=["x"]).part(Size)) is Size


def test_only_what_is_meant_for_it_is_recorded() -> None:
    assert Job(names=["x"], kind="a", secret="s").record() == {"width": 3, "kind": "a"}


def test_a_function_of_keywords() -> None:
    @as_keywords(Job)
    def count(job: Job) -> int:
        return job.width * len(job.names)

    assert count(names=["x", "y"], width=5) == 10
    with pytest.raises(TypeError, match=r"^count\(\) missing .*names"):
        count(width=5)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"^count\(\) got an unexpected keyword argument 'widht'"):
        count(names=["x"], widht=5)  # type: ignore[call-arg]
    with pytest.raises(UsageError, match="`width`"):
        count(names=["x"], width=0)


@options_class
class Forms(Options):
    some: tuple[Literal["a", "b", "c"], ...] | None = option("At least one.", default=None)
    any: tuple[Literal["a", "b", "c"], ...] = option("Or none.", default=())


def test_several_choices_are_a_list_or_a_text_with_commas() -> None:
    assert Forms(some="c, a").some == Forms(some=["c", "a"]).some == ("c", "a")  # type: ignore[arg-type]
    assert Forms().some is None
    assert Forms(any="").any == ()  # type: ignore[arg-type]


@pytest.mark.parametrize("value", ["", [], "a,a", "d", "a,,b", ["a", "d"]])
def test_other_choices_are_refused(value: Any) -> None:
    with pytest.raises(UsageError, match="`some` must be some of a, b, c, each once, not"):
        Forms(some=value)
