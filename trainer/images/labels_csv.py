"""A CSV of labels: `id,breed` as Kaggle has it, or `path,label`; with a column `split`, and others, where wanted."""

from typing import NamedTuple

from serving.console.terminal import printable
from serving.errors import UsageError
from serving.storage.local_file import read_file, why_unreadable
from serving.text.read_csv import read_rows
from serving.text.utf8_files import decode_text
from trainer.images.problems import listed
from trainer.images.split_names import SplitName, named_part

_LAYOUTS = (("path", "label"), ("id", "breed"))
"""Columns of the image and of its class."""
_SPLIT = "split"


class Row(NamedTuple):
    """An image as the file names it, its class, and where that stands, for messages."""

    image: str
    label: str
    where: str
    split: SplitName | None
    """The part that the column `split` says."""
    columns: tuple[tuple[str, str], ...]
    """Names and values of the other columns."""


class LabelFile(NamedTuple):
    """The rows, and whether they name images by ids."""

    rows: list[Row]
    has_ids: bool


def read_label_file(path: str) -> LabelFile:
    """Reads a CSV of labels.

    Raises:
      UsageError: it can't be read, isn't UTF-8, has other columns or no rows, or a row names no image or has a value
        too many.
    """
    name = f"`labels` {printable(path)}"
    try:
        text = decode_text(read_file(path), name)
    except OSError as error:
        raise UsageError(f"{name}: {why_unreadable(error)}") from error
    columns, lines = read_rows(text, name)
    image, label = _layout(columns, name)
    rows, faults = [], []
    for line, values in lines:
        where = f"{name}, line {line}"
        told = values.get(_SPLIT, "").strip()
        split = named_part(told)
        others = tuple((name, value) for name, value in values.items() if name not in (image, label, _SPLIT))
        if told and split is None:
            faults.append(f"{where}: the split {printable(repr(told))} is unknown; write training, validation or test")
        if not values[image]:
            faults.append(
                f"{where}: the label {printable(repr(values[label]))} has no image; fill in the column {image}"
            )
        rows.append(Row(values[image], values[label], where, split, others))
    if faults:
        raise UsageError(listed(faults, what="labels"))
    if not rows:
        raise UsageError(f"{name} names no image: it needs lines below the first")
    return LabelFile(rows, has_ids=image == "id")


def _layout(columns: list[str], name: str) -> tuple[str, str]:
    layout = next((layout for layout in _LAYOUTS if set(layout) <= set(columns)), None)
    if layout is not None:
        return layout
    found = printable(",".join(columns)) or "none"
    plain = {column.strip("\"'").lower() for column in columns}
    hint = ": write them in small letters, without quotes" if any(set(layout) <= plain for layout in _LAYOUTS) else ""
    raise UsageError(f"{name}: expected a first line with the columns id,breed or path,label; found {found}{hint}")
