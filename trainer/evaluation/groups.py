"""Coarser groups of classes, for answers that are sure of no class: a CSV with `label,group`."""

from collections.abc import Sequence

from serving.console.terminal import printable
from serving.errors import UsageError
from serving.storage.local_file import read_file, why_unreadable
from serving.text.read_csv import read_rows
from serving.text.utf8_files import decode_text
from trainer.images.problems import listed

_SHOWN = 5


def read_groups(path: str, labels: Sequence[str]) -> dict[str, str]:
    """The group of each label, in the order of the labels.

    Args:
      path: the CSV, on this machine.
      labels: the model's.

    Raises:
      UsageError: it can't be read, names a label twice or one that the model hasn't, or leaves one out.
    """
    name = f"`groups` {printable(path)}"
    try:
        text = decode_text(read_file(path), name)
    except OSError as error:
        raise UsageError(f"{name}: {why_unreadable(error)}") from error
    _, rows = read_rows(text, name, ("label", "group"))
    groups: dict[str, str] = {}
    faults = []
    for line, values in rows:
        label, group = values["label"], values["group"]
        where = f"{name}, line {line}"
        if label not in labels:
            faults.append(
                f"{where}: no image is labelled {printable(repr(label))}; drop the line, or correct the label"
            )
        elif not group or not group.isprintable() or group != group.strip():
            faults.append(f"{where}: the group of {label!r} is {group!r}; write a name without blanks around it")
        elif label in groups:
            faults.append(f"{where}: {label!r} is named twice; drop one of the lines")
        groups[label] = group
    if faults:
        raise UsageError(listed(faults, what="lines"))
    missing = [label for label in labels if label not in groups]
    if missing:
        names = ", ".join(map(repr, missing[:_SHOWN])) + (", …" if len(missing) > _SHOWN else "")
        raise UsageError(f"{name}: {len(missing):,} labels have no group: {names}; add lines for them")
    return {label: groups[label] for label in labels}
