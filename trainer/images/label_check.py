"""Refuses labels that differ but look the same: they would become two classes for one thing."""

import unicodedata
from collections.abc import Callable, Iterable
from typing import NamedTuple

from serving.console.terminal import printable
from serving.errors import UsageError
from serving.text.look_alikes import folded, visible
from trainer.images.problems import listed


class Label(NamedTuple):
    """A class's name, and where it stands first: a line of a CSV, or a folder."""

    text: str
    where: str


def check_labels(labels: Iterable[Label], note: Callable[[str], None]) -> None:
    """Refuses labels that can only be errors.

    Args:
      labels: distinct ones.
      note: is told of labels that may be an error.

    Raises:
      UsageError: a label begins or ends with a blank or has control characters; or two differ in nothing that can be
        seen.
    """
    known = list(labels)
    faults = []
    for text, where in known:
        if text != text.strip():
            faults.append(f"{where}: the label {text!a} begins or ends with a blank; remove it")
        elif any(unicodedata.category(char) in {"Cc", "Zl", "Zp"} for char in text) or not visible(text):
            faults.append(f"{where}: the label {text!a} has characters that can't be seen; remove them")
    for first, second in () if faults else _pairs(known, visible):
        faults.append(
            f"{second.where}: the label {second.text!a} looks like {first.text!a} ({first.where}), but has "
            "other blanks, invisible characters or accents; write both the same way"
        )
    if faults:
        raise UsageError(listed(faults, what="labels"))
    for first, second in _pairs(known, folded):
        note(
            f"WARNING: the labels {printable(first.text)} ({first.where}) and {printable(second.text)} "
            f"({second.where}) are nearly the same and become two classes; if they are one, write both the same way"
        )


def _pairs(labels: Iterable[Label], form: Callable[[str], str]) -> Iterable[tuple[Label, Label]]:
    """Each label that has the same form as an earlier one, after that one."""
    first: dict[str, Label] = {}
    for label in labels:
        earlier = first.setdefault(form(label.text), label)
        if earlier is not label:
            yield earlier, label
