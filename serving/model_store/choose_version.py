"""Which version a user means by `model`: a model's folder, or one version's folder, on a disk or in a bucket."""

from collections.abc import Iterable
from pathlib import Path

from serving.errors import UsageError
from serving.model_store.versions import MODEL_FILE, models_in, version_number, versions_on_disk, whole
from serving.storage.base import scheme


def named_model(path: str) -> tuple[str, int | None]:
    """The model's folder, and its version if a version's folder was named. A bucket isn't asked yet.

    Raises:
      UsageError: on this machine's disk, there is no such folder, or no model in it.
    """
    if scheme(path):
        model, _, last = path.rstrip("/").rpartition("/")
        version = version_number(last)
        return (path.rstrip("/"), None) if version is None else (model, version)
    folder = Path(path)
    if folder.is_file():
        raise UsageError(f"`model` {path}: a file; give a model folder, STORE/NAME, as `flow-images train` makes it")
    if not folder.is_dir():
        raise UsageError(f"`model` {path}: no such folder; `flow-images train` makes one")
    folder = folder.resolve()
    if (folder / MODEL_FILE).exists():
        version = version_number(folder.name)
        if version is None:
            raise UsageError(
                f"`model` {path}: a SavedModel must lie in a folder that is named by its version: move it to "
                f"{folder / '1'}, say"
            )
        return str(folder.parent), version
    choose_on_disk(folder, None)
    return str(folder), None


def choose_on_disk(model: str | Path, version: int | None) -> int:
    """The version, or the newest, of a model's folder on this machine; see `choose`."""
    try:
        found = whole(versions_on_disk(model))
    except OSError as error:
        raise UsageError(f"`model` {model}: {error.strerror}") from error
    return choose(str(model), found, version, models_in(model) if not found else "")


def choose(model: str, found: Iterable[int], version: int | None, hint: str = "") -> int:
    """The version, or the newest.

    Args:
      model: STORE/NAME, for messages.
      found: the whole versions that are there.
      version: None for the newest.
      hint: for the message where there is none.

    Raises:
      UsageError: there is no such version, or none at all.
    """
    there = sorted(found)
    if not there:
        raise UsageError(
            f"`model` {model}: no version folder (an integer, with a {MODEL_FILE}) in it; "
            + (hint or "`flow-images train` makes one")
        )
    if version is not None and version not in there:
        raise UsageError(
            f"`model` {model}: no version {version} in it, but {', '.join(map(str, there))}. A run that was begun with "
            "one needs it until its end, unless it is begun again with `fresh`"
        )
    return there[-1] if version is None else version
