"""A result without a label says why, wherever it is used."""

import pytest

import flow_images as fi
from flow_images.classification import LabelScore

PREDICTED = fi.Classification(
    image="rex.jpg", verdict="predicted", top=(LabelScore("pug", 0.731059), LabelScore("corgi", 0.1))
)
MISSING = fi.Classification(image=3, verdict="rejected", reason="missing", message="there is no such file")


def test_a_result_with_a_label_is_given_back() -> None:
    assert PREDICTED.raise_for_reason() is PREDICTED


def test_one_without_is_raised_with_its_reason() -> None:
    with pytest.raises(fi.errors.NotClassified, match=r"^image 3: rejected, missing: there is no such file$") as raised:
        MISSING.raise_for_reason()
    assert raised.value.reason == "missing"


def test_what_an_interpreter_shows_is_the_answer_or_the_reason() -> None:
    assert repr(PREDICTED) == "<Classification rex.jpg: pug (0.731059)>"
    assert repr([MISSING]) == "[<Classification image 3: rejected, missing: there is no such file>]"
