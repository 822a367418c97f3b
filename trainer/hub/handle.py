"""Checks the option `hub_model`. No TensorFlow in here, so that a wrong one is told at once."""

import os
import re
from pathlib import Path

from serving.console.terminal import printable
from serving.errors import UsageError
from serving.model_store.versions import MODEL_FILE, check_model_path
from serving.storage.base import scheme

ARCHIVES = (".tar.gz", ".tgz", ".tar")
_WORD = r"[\w.-]+"
_KAGGLE = re.compile(rf"({_WORD})/({_WORD})/(tensorFlow[12]?|keras|tfHub)/({_WORD})/(\d+)", re.ASCII | re.IGNORECASE)
"""OWNER/MODEL/FRAMEWORK/VARIATION/VERSION, as Kaggle's page of a model and its client have it."""
_KAGGLE_PAGE = re.compile(
    rf"https?://(?:www\.)?kaggle\.com/models/({_WORD})/({_WORD})/(?:frameworks/)?({_WORD})/(?:variations/)?({_WORD})/"
    r"(?:versions/)?(\d+)/?",
    re.ASCII,
)
_KAGGLE_MODELS = re.compile(r"https?://(?:www\.)?kaggle\.com/models/[^?]*", re.ASCII)
_KAGGLE_ENDPOINT = "https://www.kaggle.com"


def kaggle_api() -> str:
    """The URL below which Kaggle's API has models; KAGGLE_API_ENDPOINT, which its own client reads, names a server."""
    endpoint = os.environ.get("KAGGLE_API_ENDPOINT") or _KAGGLE_ENDPOINT
    return f"{endpoint.rstrip('/')}/api/v1/models/"


def kaggle_url(handle: str) -> str | None:
    """Where Kaggle's API answers with the archive of a model; None for other handles."""
    found = _KAGGLE_PAGE.fullmatch(handle) or (None if Path(handle).exists() else _KAGGLE.fullmatch(handle))
    if found is None:
        return None
    return f"{kaggle_api()}{'/'.join(found.groups())}/download"


def is_url(handle: str) -> bool:
    """Is the module downloaded?"""
    return bool(scheme(handle)) or kaggle_url(handle) is not None


def is_archive(handle: str) -> bool:
    """Is it an archive on this machine?"""
    return not is_url(handle) and handle.endswith(ARCHIVES) and Path(handle).is_file()


def check_hub_handle(handle: str) -> None:
    """Raises UsageError where a handle is not a URL, Kaggle model, archive or SavedModel's folder on this machine."""
    if _KAGGLE_MODELS.fullmatch(handle) and kaggle_url(handle) is None:
        raise UsageError(
            f"`hub_model` {printable(handle)} is Kaggle's page of more than one model: give that of one version, or "
            "OWNER/MODEL/FRAMEWORK/VARIATION/VERSION"
        )
    if is_url(handle):
        return
    check_model_path("hub_model", handle)
    if not is_archive(handle) and not (Path(handle) / MODEL_FILE).is_file():
        raise UsageError(
            f"`hub_model` {printable(handle)}: no such SavedModel; expected a folder with {MODEL_FILE}, an archive "
            f"({', '.join(ARCHIVES)}), a URL, or Kaggle's OWNER/MODEL/FRAMEWORK/VARIATION/VERSION"
        )
