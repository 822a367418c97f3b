"""A run that is complete: what was written about it, whether that is still so, and what is new since then."""

import datetime
import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pydantic

from beam_jobs import stop_request
from beam_jobs.image_lists import is_list
from beam_jobs.image_names import image_name
from beam_jobs.listing import list_images
from beam_jobs.plan import OutputForms, Plan, RunFolder
from serving.errors import FlowImagesError
from serving.storage.base import Storage, differ, is_web, join
from serving.text.utf8_files import is_utf8

_LISTING_S = 20.0
"""Seconds that the look for new images may take: of a bucket with millions, only the first ones are counted."""
_BLOCK = 4 * 1024 * 1024

Hashes = np.ndarray[Any, np.dtype[np.uint64]]


class WrittenFile(pydantic.BaseModel):
    """A file of the results as it was written."""

    model_config = pydantic.ConfigDict(frozen=True)

    sha256: str
    stamp: dict[str, str]


class Finished(pydantic.BaseModel):
    """What was written when the run was complete. It is kept below the parts, where no user edits it."""

    model_config = pydantic.ConfigDict(frozen=True)

    run: dict[str, Any]
    """All of run.json."""
    account: dict[str, Any]
    files: dict[str, WrittenFile]
    """The files of rows, by name."""
    forms: OutputForms | None = None
    """What the files of predictions look like; None from an earlier release."""

    @property
    def since(self) -> str:
        """When the run was complete, in words."""
        return f"{datetime.datetime.fromisoformat(self.run['finished']):%Y-%m-%d %H:%M:%S} UTC"

    @property
    def results(self) -> tuple[dict[str, Any], dict[str, str]]:
        """What makes two of them the same, whenever they were written."""
        return self.account, {name: file.sha256 for name, file in self.files.items()}


def run_json(run: Mapping[str, Any]) -> bytes:
    """The bytes of run.json."""
    return (json.dumps(run, indent=1, ensure_ascii=False) + "\n").encode()


def load_finished(folder: RunFolder, plan: Plan) -> Finished | None:
    """What was written about the run with its last retry; None if nothing was, or by another release."""
    parts = folder.parts(plan)
    return _load(folder, parts.finished_path(parts.generations()))


def _load(folder: RunFolder, path: str) -> Finished | None:
    try:
        return Finished.model_validate_json(folder.storage.read(path))
    except (FileNotFoundError, pydantic.ValidationError):
        return None


def last_finished(folder: RunFolder, plan: Plan) -> Finished | None:
    """What was written about the run, or before its last retry; None if nothing was, or by another release."""
    parts = folder.parts(plan)
    for generation in range(parts.generations(), -1, -1):
        if found := _load(folder, parts.finished_path(generation)):
            return found
    return None


def note_files(folder: RunFolder, plan: Plan, names: Iterable[str]) -> None:
    """Keeps the names of files that are about to be written, so that they are known to be the run's own."""
    parts = folder.parts(plan)
    for name in names:
        folder.storage.create(parts.written_path(name), b"")


def own_files(folder: RunFolder, plan: Plan, names: Iterable[str], last: Finished | None) -> list[str]:
    """The names, out of some, of files that the run has written or was about to write.

    Args:
      folder: of the run.
      plan: of the run.
      names: of files that may be there.
      last: what was written about the run last.
    """
    known = last.files.keys() if last else ()
    parts = folder.parts(plan)
    return [name for name in names if name in known or folder.storage.exists(parts.written_path(name))]


def keep_finished(folder: RunFolder, plan: Plan, finished: Finished) -> Finished:
    """Stores what was written. If it is what had been written before, run.json stays as it was then."""
    parts = folder.parts(plan)
    path = parts.finished_path(parts.generations())
    if folder.storage.create(path, finished.model_dump_json().encode()):
        return finished
    there = load_finished(folder, plan)
    if there:
        same = there.results == finished.results
        # Other forms of the same outcomes make the run no younger.
        run = there.run if same else finished.run | {name: there.run[name] for name in ("finished", "seconds")}
        finished = finished.model_copy(update={"run": run})
    with folder.storage.replacing(path) as file:
        file.write(finished.model_dump_json().encode())
    return finished


def edited(folder: RunFolder, finished: Finished) -> list[str]:
    """Names of the results that are not any more as they were written."""
    names = [name for name, written in finished.files.items() if _is_edited(folder, name, written)]
    run = folder.storage.read(join(folder.output, "run.json"))
    return names + ["run.json"] * (run != run_json(finished.run))


def _is_edited(folder: RunFolder, name: str, written: WrittenFile) -> bool:
    path = join(folder.output, name)
    stamp = folder.storage.stamp(path)
    if not differ(stamp, written.stamp):
        return False
    # If it has the size that it had, it may only have been copied.
    return stamp["size"] != written.stamp["size"] or sha256_of(folder.storage, path) != written.sha256


def sha256_of(storage: Storage, path: str) -> str:
    """The SHA-256 of a file, which is read in pieces."""
    digest, size = hashlib.sha256(), int(storage.stamp(path)["size"])
    for start in range(0, size, _BLOCK):
        digest.update(storage.read_range(path, start, min(start + _BLOCK, size)))
    return digest.hexdigest()


class News:
    """What is new since a run was complete: counted by a listing of its inputs, without a look into any image."""

    def __init__(
        self,
        folder: RunFolder,
        plan: Plan,
        finished: Finished,
        *,
        own: Sequence[str],
        stores: Callable[[str], Storage],
        newest: Callable[[], int | None],
    ) -> None:
        """Lists nothing yet.

        Args:
          folder: of the run.
          plan: of the run.
          finished: what was written.
          own: files and folders that are never input.
          stores: gives the store that holds a path.
          newest: gives the newest version of the model, if that is known without asking a server.
        """
        self._folder = folder
        self._plan = plan
        self._finished = finished
        self._own = own
        self._stores = stores
        self._newest = newest

    def lines(self) -> Iterator[str]:
        """What a user is told: a first line at once, others after the listing. Nothing is written."""
        model = self._plan.model
        yield (
            f"complete since {self._finished.since}, with version {model.version} of {model.name}: nothing is left to "
            "do"
        )
        try:
            found = [*self._images(), *self._version()]
        except (OSError, FlowImagesError) as error:
            found = []
            yield f"it is not known what is new since then: {error}"
        if found:
            yield (
                f"new since then, and not in these results: {'; '.join(found)}. `fresh` predicts all images again; "
                "or predict only what is new into another `output`"
            )
        if names := edited(self._folder, self._finished):
            yield (
                f"{', '.join(names)}: changed since, and left as {'it is' if len(names) == 1 else 'they are'}; "
                "`flow-images merge` writes all results again"
            )

    def _version(self) -> list[str]:
        version = self._newest()
        return [f"version {version} of the model"] if version is not None and version > self._plan.model.version else []

    def _images(self) -> list[str]:
        """How many images are new in the inputs, or gone."""
        # A URL that is given by itself names the same image as then, and would be asked for.
        inputs = [one for one in self._plan.options.inputs if not is_web(one) or is_list(one)]
        if not inputs:
            return []
        known = _hashed(self._known())
        now, whole = self._listed(inputs)
        new = len(np.setdiff1d(now, known, assume_unique=True))
        all_listed = whole and len(inputs) == len(self._plan.options.inputs)
        gone = len(np.setdiff1d(known, now, assume_unique=True)) if all_listed else 0
        more = "{} more in the inputs" if whole else "at least {} more in the inputs"
        return [_count(new, more)] * bool(new) + [_count(gone, "{} no longer in them")] * bool(gone)

    def _known(self) -> Iterator[str]:
        for chunk in range(self._plan.manifest.chunks):
            for row in self._folder.read_chunk(self._plan, chunk):
                if not row.unnameable:
                    yield image_name(row.path, self._plan.base)

    def _listed(self, inputs: Sequence[str]) -> tuple[Hashes, bool]:
        """The images that are there now, and whether these are all."""
        ends, whole = time.monotonic() + _LISTING_S, True

        def names() -> Iterator[str]:
            nonlocal whole
            images = self._plan.options.images
            for one in list_images(inputs, leave_out=self._own, stores=self._stores, images=images):
                if time.monotonic() > ends or stop_request.STOP.is_set():
                    whole = False
                    return
                if is_utf8(one.path):
                    yield image_name(one.path, self._plan.base)

        return _hashed(names()), whole


def _hashed(names: Iterable[str]) -> Hashes:
    """Distinct hashes, sorted: eight bytes an image, where the names of millions would not fit into memory."""
    digests = (int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest()) for name in names)
    return np.unique(np.fromiter(digests, np.uint64))


def _count(number: int, images: str) -> str:
    return images.format(f"{number:,} image{'' if number == 1 else 's'}")
