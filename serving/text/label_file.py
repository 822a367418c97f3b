"""The text file that names the classes of a model without a contract: one label a line, in the order of its outputs."""

import logging
import re
from collections import Counter
from collections.abc import Sequence

from serving.errors import UsageError
from serving.storage.local_file import TooLarge, read_file, why_unreadable
from serving.text.look_alikes import folded
from serving.text.utf8_files import decode_text

_LOG = logging.getLogger(__name__)
_MOST_BYTES = 64 * 1024 * 1024
_LINE_END = re.compile(r"\r\n|\n|\r")
"""No other character ends a line of a text file, whatever `str.splitlines` says."""
_SEPARATOR = re.compile("[,;\t]")
_COLUMNS = {"id", "path", "label", "labels", "breed", "class", "name", "index"}
"""Names of columns in the header of a CSV that somebody takes for such a file."""


def check_class_names(path: str, field: str = "labels") -> None:
    """Looks into the file before anything slow begins.

    Raises:
      UsageError: see `read_class_names`; it names the field.
    """
    _lines(f"`{field}` {path}", path)


def read_class_names(path: str) -> list[str]:
    """Labels of a text file; empty lines at its end are none.

    A label that stands there again, as `crane` in ImageNet's public lists, gets a number behind it: `crane (2)`. A
    warning tells of it, and of labels that look alike or have blanks around them.

    Raises:
      UsageError: unreadable, a CSV, fewer than two labels, or an empty one; with the line.
    """
    name = f"`labels` {path}"
    labels = _numbered(name, _lines(name, path))
    _warn_of_doubtful(name, labels)
    return labels


def _lines(name: str, path: str) -> list[str]:
    try:
        text = decode_text(read_file(path, _MOST_BYTES), name)
    except TooLarge as error:
        raise UsageError(f"{name}: a text file with one label a line is never over {_MOST_BYTES:,} bytes") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise UsageError(f"{name}: {why_unreadable(error)}") from error
    labels = _LINE_END.split(text)
    while labels and not labels[-1].strip():
        labels.pop()
    _refuse_csv(name, labels)
    for line, label in enumerate(labels, 1):
        if not label.strip():
            raise UsageError(f"{name}, line {line} is empty: each line must be a label, in the order of the outputs")
    if len(labels) < 2:
        raise UsageError(f"{name} has {len(labels)} labels: expected at least two, one a line")
    return labels


def _numbered(name: str, labels: Sequence[str]) -> list[str]:
    """The labels, each different from the others."""
    given, last = set(labels), Counter[str]()
    first: dict[str, int] = {}
    distinct = []
    for line, label in enumerate(labels, 1):
        other = label
        if label in first:
            while other in given:
                last[label] += 1
                other = f"{label} ({last[label] + 1})"
            _LOG.warning("%s: lines %d and %d have the same label; the second one is taken as %s", name, first[label],
                         line, ascii(other))  # fmt: skip
            given.add(other)
        first.setdefault(label, line)
        distinct.append(other)
    return distinct


def _refuse_csv(name: str, labels: Sequence[str]) -> None:
    header = _SEPARATOR.split(labels[0]) if labels else []
    known = len(header) > 1 and _COLUMNS & {column.strip(' "').lower() for column in header}
    if known or (name.lower().endswith((".csv", ".tsv")) and any(map(_SEPARATOR.search, labels))):
        raise UsageError(
            f"{name} is a CSV (its first line is {labels[0]!r}): expected a text file with one label a line and "
            "nothing else, in the order of the model's outputs"
        )


def _warn_of_doubtful(name: str, labels: Sequence[str]) -> None:
    blanks = [line for line, label in enumerate(labels, 1) if label != label.strip()]
    if blanks:
        _LOG.warning("%s, line %s: blanks around a label are taken as part of it", name, _listed(blanks))
    alike: dict[str, list[int]] = {}
    for line, label in enumerate(labels, 1):
        alike.setdefault(folded(label), []).append(line)
    for same in alike.values():
        if len(same) > 1:
            shown = ", ".join(ascii(labels[line - 1]) for line in same[:_NAMED])
            _LOG.warning("%s, lines %s have labels that look alike: %s", name, _listed(same), shown)


_NAMED = 5
"""Lines that a warning names at most."""


def _listed(lines: Sequence[int]) -> str:
    more = f" and {len(lines) - _NAMED} more" if len(lines) > _NAMED else ""
    return ", ".join(map(str, lines[:_NAMED])) + more
