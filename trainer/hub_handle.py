"""Checks the option `hub_model`. No TensorFlow in here, so that a wrong one is told at once."""

from pathlib import Path

from serving.console.terminal import printable
from serving.errors import UsageError
from serving.model_store.versions import MODEL_FILE, check_model_path
from serving.storage.base import scheme

ARCHIVES = (".tar.gz", ".tgz", ".tar")


def is_url(handle: str) -> bool:
    """Is the module downloaded?"""
    return bool(scheme(handle))


def is_archive(handle: str) -> bool:
    """Is it an archive on this machine?"""
    return not is_url(handle) and handle.endswith(ARCHIVES) and Path(handle).is_file()


def check_hub_handle(handle: str) -> None:
    """Raises UsageError where a handle is neither a URL, nor an archive or a SavedModel's folder on this machine."""
    if is_url(handle):
        return
    check_model_path("hub_model", handle)
    if not is_archive(handle) and not (Path(handle) / MODEL_FILE).is_file():
        raise UsageError(
            f"`hub_model` {printable(handle)}: no such SavedModel; expected a folder with {MODEL_FILE}, an archive "
            f"({', '.join(ARCHIVES)}) or a URL"
        )
