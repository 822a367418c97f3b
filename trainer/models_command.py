"""`flow-images models`: what is in a model store, one version, and what differs between two."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from serving.console.grouped_help import GroupOfCommands
from serving.console.terminal import printable, say, show_table
from serving.errors import UsageError
from serving.storage.base import Storage
from serving.storage.stores import Stores

if TYPE_CHECKING:
    from rich.table import Table

    from trainer.evaluation.evaluation import Evaluation
    from trainer.lineage import TrainingRecord
    from trainer.published_models import PublishedVersion

_CHANGED_CLASSES, _CHANGED_IMAGES = 10, 10
_FIGURES = ("accuracy", "top_5", "macro_f1", "log_loss", "calibration_error", "temperature", "threshold")
_LEAST_NAME = 8
"""Columns for the name of a model."""
_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(cls=GroupOfCommands)
def models() -> None:
    """Show which models are published, how each was made, and how good it is."""


@models.command("list", examples=("flow-images models list models", "flow-images models list gs://pets/models/dogs"))
@click.argument("path", metavar="STORE[/NAME]")
@_as_json
def list_(path: str, as_json: bool) -> None:
    """List the versions of a model, or of all models in a store."""
    from trainer.published_models import list_models, list_versions

    storage = Stores()(path)
    names = list_models(path, storage)
    found = [version for name in (names or [path]) for version in list_versions(name, storage)]
    if as_json:
        click.echo(json.dumps([_plain(version) for version in found], indent=1, ensure_ascii=False))
        return
    show_table(_table(found), narrow=_table(found, is_narrow=True))
    for version in found:
        if version.problem:
            say(f"flow-images: {printable(version.path)}: {printable(version.problem)}", err=True)


@models.command(examples=("flow-images models show models/dogs", "flow-images models show models/dogs/3 --json"))
@click.argument("path", metavar="STORE/NAME[/VERSION]")
@_as_json
def show(path: str, as_json: bool) -> None:
    """Show how a version was made and how good it is; without VERSION, the one in service."""
    from trainer.published_models import find_version

    version = find_version(path, Stores()(path))
    if as_json:
        click.echo(json.dumps(_plain(version), indent=1, ensure_ascii=False))
        return
    say(f"{printable(version.path)}{' (in service)' if version.is_in_service else ''}")
    if version.record is None:
        say(version.problem or "it does not say how it was made")
        return
    for name, value in _facts(version.record):
        say(f"  {name:<20} {printable(value)}", as_is=name == "command")
    say(f"  {'report':<20} {printable(version.path)}/report.html", as_is=True)


@models.command(examples=("flow-images models diff models/dogs/3 models/dogs/4",))
@click.argument("old", metavar="STORE/NAME/VERSION")
@click.argument("new", metavar="STORE/NAME/VERSION")
@_as_json
def diff(old: str, new: str, as_json: bool) -> None:
    """Show what differs between two versions: options, images, and what was measured."""
    from trainer.published_models import find_version

    stores = Stores()
    before, after = find_version(old, stores(old)), find_version(new, stores(new))
    for version in (before, after):
        if version.record is None:
            raise UsageError(f"{printable(version.path)}: {version.problem or 'it does not say how it was made'}")
    found = _differences(before, after, stores(old), stores(new))
    if as_json:
        click.echo(json.dumps(found, indent=1, ensure_ascii=False))
        return
    say(f"{printable(before.path)} → {printable(after.path)}")
    for section, changes in found.items():
        if changes:
            say(section)
            for name, change in changes.items():
                say(f"  {printable(name):<24} {_shown_change(change)}")


def _table(found: "Sequence[PublishedVersion]", *, is_narrow: bool = False) -> "Table":
    """A row for each version. Only a model's name is ever broken, which can be longer than a terminal is wide."""
    from rich import box
    from rich.table import Column, Table
    from rich.text import Text

    headings = ("version", "trained", "test accuracy", "images", "gates passed", "in service")
    table = Table(
        Column("model", overflow="fold", min_width=_LEAST_NAME),
        *(Column(name.replace(" ", "\n") if is_narrow else name, no_wrap=True) for name in headings),
        box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False,
    )  # fmt: skip
    for version in found:
        table.add_row(*(Text(cell) for cell in _row(version, is_narrow=is_narrow)))
    return table


def _row(version: "PublishedVersion", *, is_narrow: bool) -> Sequence[str]:
    """Cells of the version; narrow ones have no time of the day, no interval, and a line for each gate."""
    record = version.record
    accuracy = trained = images = blessed = ""
    if record is not None:
        accuracy = "" if record.accuracy is None else f"{record.accuracy:.3f}"
        if record.accuracy_interval and not is_narrow:
            accuracy += f" ({record.accuracy_interval[0]:.3f} to {record.accuracy_interval[1]:.3f})"
        trained = f"{record.created:{'%Y-%m-%d' if is_narrow else '%Y-%m-%d %H:%M'}}" if record.created else ""
        images = f"{sum(record.images.values()):,}" if record.images else ""
        blessed = ("\n" if is_narrow else ", ").join(map(printable, record.blessed_by)) or "none asked"
    in_service = "yes" if version.is_in_service else ""
    return (
        printable(version.model.rpartition("/")[2]),
        str(version.number),
        trained,
        accuracy,
        images,
        blessed,
        in_service,
    )


def _plain(version: "PublishedVersion") -> dict[str, Any]:
    record = version.record.model_dump(mode="json") if version.record else None
    return {"model": version.model, "version": version.number, "path": version.path,
            "in_service": version.is_in_service, "problem": version.problem, "training": record}  # fmt: skip


def _facts(record: "TrainingRecord") -> Iterator[tuple[str, str]]:
    if record.created:
        yield "trained", f"{record.created:%Y-%m-%d %H:%M} UTC"
    for name in ("command", "code", "hub_module", "hub_digest", "data_digest", "split_digest"):
        if value := getattr(record, name):
            yield name.replace("_", " "), value
    for name in ("images", "hyperparameters", "seconds", "libraries"):
        if values := getattr(record, name):
            yield name, ", ".join(f"{key} {value}" for key, value in values.items())
    for name in ("seed", "classes", *_FIGURES):
        value = getattr(record, name)
        if value is not None:
            yield name.replace("_", " "), f"{value:.4f}" if isinstance(value, float) else str(value)
    for gate in record.gates:
        yield f"gate {gate.name}", f"{'passed' if gate.passed else 'failed'}: wanted {gate.wanted}, found {gate.found}"


def _differences(
    before: "PublishedVersion", after: "PublishedVersion", old: Storage, new: Storage
) -> dict[str, dict[str, Any]]:
    """Changes by section: a pair for a value, a list of paths for images."""
    from trainer.published_models import read_evaluation

    one, other = before.record, after.record
    assert one is not None
    assert other is not None
    figures = _changed(_fields(one, _FIGURES), _fields(other, _FIGURES))
    origins = ("hub_module", "hub_digest", "data_digest", "split_digest", "code", "seed", "classes")
    return {
        "measured": figures,
        "test images": _test_images(before, after, old, new),
        "classes": _changed_classes(read_evaluation(before, old), read_evaluation(after, new)),
        "images": _changed_images(before, after, old, new),
        "options": _changed(one.options, other.options, without=("version", "model_store")),
        "hyper-parameters": _changed(one.hyperparameters, other.hyperparameters),
        "libraries": _changed(one.libraries, other.libraries),
        "origin": _changed(_fields(one, origins), _fields(other, origins)),
    }


def _fields(record: "TrainingRecord", names: Sequence[str]) -> dict[str, Any]:
    return {name: getattr(record, name) for name in names}


def _changed(before: Mapping[str, Any], after: Mapping[str, Any], without: Sequence[str] = ()) -> dict[str, Any]:
    names = [name for name in dict.fromkeys([*before, *after]) if name not in without]
    return {name: (before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)}


def _changed_classes(before: "Evaluation | None", after: "Evaluation | None") -> dict[str, Any]:
    """Recall of the classes whose recall changed most."""
    if before is None or after is None:
        return {}
    recalls = [{one.label: one.recall for one in found.classes if one.recall is not None} for found in (before, after)]
    both = [label for label in recalls[0] if label in recalls[1] and recalls[0][label] != recalls[1][label]]
    both.sort(key=lambda label: -abs(recalls[1][label] - recalls[0][label]))
    return {label: (recalls[0][label], recalls[1][label]) for label in both[:_CHANGED_CLASSES]}


def _changed_images(
    before: "PublishedVersion", after: "PublishedVersion", old: Storage, new: Storage
) -> dict[str, list[str]]:
    from trainer.published_models import changed_images, read_training_images

    one, other = read_training_images(before.path, old), read_training_images(after.path, new)
    if one is None or other is None:
        return {}
    added, removed = changed_images(one, other)
    found = {"added": [image.path for image in added], "removed": [image.path for image in removed]}
    return {name: paths for name, paths in found.items() if paths}


def _test_images(before: "PublishedVersion", after: "PublishedVersion", old: Storage, new: Storage) -> dict[str, int]:
    """How many each was measured on, and how many of them are the same, if not all are."""
    from trainer.published_models import read_training_images

    parts = [read_training_images(before.path, old), read_training_images(after.path, new)]
    one, other = ({(image.digest, image.label) for image in part or () if image.split == "test"} for part in parts)
    if None in parts or one == other:
        return {}
    return {"only of the old": len(one - other), "only of the new": len(other - one), "of both": len(one & other)}


def _shown_change(change: Any) -> str:
    """A change as a text: of a count, of a list of paths, or of a pair."""
    if isinstance(change, int):
        return f"{change:,}"
    if isinstance(change, list):
        more = [f"and {len(change) - _CHANGED_IMAGES:,} more"] if len(change) > _CHANGED_IMAGES else []
        return "\n    ".join([f"{len(change):,}", *map(printable, change[:_CHANGED_IMAGES]), *more])
    before, after = change
    if isinstance(before, float) and isinstance(after, float):
        return f"{before:.4f} → {after:.4f} ({after - before:+.4f})"
    return " → ".join(f"{value:.4f}" if isinstance(value, float) else printable(str(value)) for value in change)
