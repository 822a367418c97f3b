"""What a model's own folder says of its training: the accuracy, and where the report is."""

import os
import urllib.parse
from collections.abc import Callable
from typing import Any

import pydantic

from beam_jobs.complete_run import CompleteRun
from serving.errors import FlowImagesError
from serving.model_store.versions import EXTRA, REPORT_FILE, TRAINING_FILE, version_number
from serving.storage.base import Storage, absolute, join, scheme, shown


class Training(pydantic.BaseModel):
    """The training of one version; a field is None where the folder doesn't say."""

    accuracy: float | None = None
    """On images that it has not seen, 0..1."""
    accuracy_interval: tuple[float, float] | None = None
    report: str | None = None
    """Where the report of the training is."""
    link: str | None = None
    """The same as a link from a page in the run's folder, if both are on disks."""


def find_training(run: CompleteRun, output: str, stores: Callable[[str], Storage]) -> Training | None:
    """What the version's folder says; None where the run was not told of it, or it can't be read now.

    Args:
      run: with the model's folder among its options, if a server was started for it.
      output: the run's folder.
      stores: gives the store of the model.
    """
    model = run.facts.options.get("model")
    if not isinstance(model, str):
        return None
    folder = run.locate(model.rstrip("/"))
    if version_number(folder.rpartition("/")[2]) is None:
        folder = join(folder, str(run.facts.model.version))
    try:
        storage = stores(folder)
        report = join(folder, REPORT_FILE)
        found = _record(storage, join(folder, EXTRA, TRAINING_FILE))
        if storage.exists(report):
            found = found.model_copy(update={"report": shown(report), "link": _link(report, output)})
    except (OSError, FlowImagesError):
        return None
    return found


def _record(storage: Storage, path: str) -> Training:
    try:
        told: Any = pydantic.TypeAdapter(dict[str, Any]).validate_json(storage.read(path))
        return Training(accuracy=told.get("accuracy"), accuracy_interval=told.get("accuracy_interval"))
    except (FileNotFoundError, pydantic.ValidationError):
        return Training()


def _link(report: str, output: str) -> str | None:
    if scheme(report) or scheme(output):
        return None
    return urllib.parse.quote(os.path.relpath(absolute(report), absolute(output)))
