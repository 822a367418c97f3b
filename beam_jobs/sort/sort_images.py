"""Puts the images of a complete run into a folder for each label: as links, or as copies.

Nothing that an earlier call did not make is moved, replaced or removed.
"""

import contextlib
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

from beam_jobs import stop_request
from beam_jobs.bounded_map import bounded_map
from beam_jobs.complete_run import CompleteRun
from beam_jobs.glob_patterns import Below, has_magic, split_pattern
from beam_jobs.image_lists import is_list
from beam_jobs.image_names import image_name
from beam_jobs.plan import STATE, RunFolder
from beam_jobs.sort.files import LinkTargets, is_as_made, leads_to, make_copy, make_hard_link, make_symlink
from beam_jobs.sort.places import Kind, Place, Places, Sorted, find_places
from beam_jobs.sort.record import Form, Made, Record, held
from serving.errors import DiskFull, FileError, StorageError, UsageError
from serving.storage.base import DISK_FULL, Fetched, absolute, is_web, join, output_errors, scheme, within
from serving.storage.disk import check_can_write, disk_errors
from serving.storage.local_file import TooLarge, read_file
from serving.storage.storage_options import StorageOptions
from serving.storage.stores import Stores

_AT_ONCE = 8
"""Images that are read at once: they wait for a network, and each may have as many bytes as the run allowed."""
_NAMED = 20
"""Files that are named at most."""

What = Literal["linked", "copied", "there", "gone", "too_large", "unreadable", "in_the_way"]
"""What became of an image. `there`: it was in its folder before; `too_large` to be copied, as for the run."""


class Account(NamedTuple):
    """What a call did; `counts` and `images` each add up to the images of the run."""

    images: Counter[Kind]
    labels: int
    """How many labels have a folder."""
    counts: Counter[What]
    removed: int
    """Files of earlier calls that were no longer right."""
    left: list[str]
    """Files of earlier calls that are no longer right and can't be removed safely, with the reason; the first ones."""
    left_count: int
    troubles: list[str]
    """What is `unreadable` or `in_the_way`, with the reason; the first ones."""

    @property
    def is_whole(self) -> bool:
        """Is the folder as it should be, but for images that are gone or too large?"""
        return not (self.left_count or self.counts["unreadable"] or self.counts["in_the_way"])


class _Read(NamedTuple):
    """A place that is to be filled, with the image's bytes where it is copied."""

    place: Place
    image: Fetched | None = None


class _Done(NamedTuple):
    """A place where nothing is left to do."""

    place: Place
    what: What
    why: str = ""


def sort_images(
    output: str,
    into: str,
    link: Form,
    storage: StorageOptions | None = None,
    *,
    begin: Callable[[int], object] = lambda images: None,
    advance: Callable[[], object] = lambda: None,
) -> Account:
    """Fills the folder. A second call changes nothing; one that was stopped is continued.

    Args:
      output: the run's folder.
      into: the folder to fill: a new or empty one, or one of an earlier call.
      link: what is made of an image on a disk; of one in a bucket or on the web a copy is made.
      storage: how stores are reached; None for what the environment says.
      begin: is told how many images there are.
      advance: is called after each of them.

    Raises:
      UsageError: a folder or the results can't be used; nothing was done.
      Incomplete: the run is not complete.
      Interrupted: a stop was asked for.
    """
    if not into.strip() or scheme(into):
        raise UsageError(f"`into` {into}: give a folder on a disk of this machine")
    check_can_write(into, "into")
    stores = Stores(storage, stop=stop_request.STOP)
    with stop_request.run_in_progress(), output_errors(output):
        run = CompleteRun(RunFolder(stores(output), output))
        _check_apart(run, into)
        with find_places(_images(run)) as places:
            if changes := run.changes(*_counts(places)):
                raise UsageError(f"{output}: {'; '.join(changes)}; `flow-images merge` writes all results again")
            begin(places.counts.total())
            with _target_errors(into), held(Path(into)) as record:
                sorting = _Sorting(run, stores, record, Path(into), link)
                try:
                    sorting.fill(places, advance)
                    sorting.remove_stale()
                finally:
                    sorting.close()
                return sorting.account(places)


def _images(run: CompleteRun) -> Iterator[Sorted]:
    threshold = run.facts.forms.threshold  # in a run of the first release no answer is called unknown
    for answer in run.answers():
        if not answer.is_placed:
            raise UsageError(
                f"{run.folder.output}: Kaggle's form has no paths, and {STATE}, which has them, is gone: sort the run "
                "where it was made"
            )
        yield Sorted(answer.path, "unknown" if answer.score < threshold else "label", answer.label)
    for fault in run.faults():
        yield Sorted(fault.path, "rejected" if fault.verdict == "rejected" else "failed")


def _counts(places: Places) -> tuple[int, int, int]:
    """Images that were predicted, rejected and failed."""
    found = places.counts
    return found["label"] + found["unknown"], found["rejected"], found["failed"]


@contextlib.contextmanager
def _target_errors(into: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in DISK_FULL:
            raise DiskFull(f"{into}: {error.strerror}; make room, and the same command continues") from error
        raise FileError(f"`into` {into} can't be used: {error.filename or into}: {error.strerror or error}") from error


def _check_apart(run: CompleteRun, into: str) -> None:
    """Refuses a folder whose links a next run would take for images, or that `fresh` would clear."""
    real = os.path.realpath(into)
    images = run.facts.options.get("images")
    for one in (*run.facts.options.get("inputs", ()), *([images] if images else [])):
        if scheme(one) or is_list(one):
            continue
        folder, pattern = split_pattern(one) if has_magic(one) else (one, "**")
        folder = os.path.realpath(folder)
        if not within(real, folder):
            continue
        below = Below(pattern)
        names = [name for name in os.path.relpath(real, folder).split("/") if name != "."] + ["label"]
        if all(below.enters(level, name) == "yes" for level, name in enumerate(names)):
            raise UsageError(
                f"`into` {into} is inside the input {one}, whose next run would take its files for images: give a "
                "folder elsewhere"
            )
    if within(real, os.path.realpath(join(run.folder.output, STATE))):
        raise UsageError(f"`into` {into} is inside the run's own files: give a folder elsewhere")


class _Sorting:
    """One call."""

    def __init__(self, run: CompleteRun, stores: Stores, record: Record, into: Path, link: Form) -> None:
        self._run = run
        self._stores = stores
        self._record = record
        self._into = into
        self._link = link
        self._most_bytes = run.limits.max_image_bytes
        self._stale = set(record.made)
        """Places of earlier calls where no image belongs any more."""
        self._counts: Counter[What] = Counter()
        self._removed = 0
        self._left: list[str] = []
        self._left_count = 0
        self._troubles: list[str] = []
        self._has_folder = cache(self._look_at_folder)
        self._here = absolute(".")
        self._targets = LinkTargets()
        self._readers = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="sort")

    def close(self) -> None:
        """Ends the readers, after what they read just now."""
        self._readers.shutdown(cancel_futures=True)

    def fill(self, places: Iterable[Place], advance: Callable[[], object]) -> None:
        """Puts each image into its place."""
        for one in bounded_map(self._submit, places, _AT_ONCE):
            done = one if isinstance(one, _Done) else self._make(one)
            self._counts[done.what] += 1
            if done.what in ("gone", "too_large", "unreadable"):
                self._empty(done.place)
            if done.why and len(self._troubles) < _NAMED:
                self._troubles.append(f"{done.place.folder}/{done.place.name}: {done.why}")
            advance()
            stop_request.raise_if_stopped()

    def remove_stale(self) -> None:
        """Removes what earlier calls made and is no longer right; its images have their new places by now."""
        for place in sorted(self._stale):
            made, file = self._record.made[place], self._into / place
            if not self._has_folder(file.parent.name) or not os.path.lexists(file):
                self._record.drop(place)
            elif why := self._why_kept(made, file):
                self._left_count += 1
                if len(self._left) < _NAMED:
                    self._left.append(f"{place}: no longer right, and left, as {why}")
            else:
                self._remove(place)
                self._removed += 1
            with contextlib.suppress(OSError):  # it has other files, as most have
                file.parent.rmdir()

    def account(self, places: Places) -> Account:
        """What was done."""
        return Account(
            places.counts,
            len(places.labels),
            self._counts,
            self._removed,
            self._left,
            self._left_count,
            self._troubles,
        )

    def _submit(self, place: Place) -> "Future[_Done | _Read]":
        self._stale.discard(f"{place.folder}/{place.name}")
        found = self._look(place)
        if found is None and self._form(place) == "copy":
            return self._readers.submit(self._read, place)
        known: Future[_Done | _Read] = Future()
        known.set_result(found or _Read(place))
        return known

    def _form(self, place: Place) -> Form:
        return "copy" if scheme(place.path) else self._link

    def _image(self, place: Place) -> str:
        located = self._run.locate(place.path)
        return located if scheme(located) else os.path.join(self._here, located)  # `..` stays: it may follow a link

    def _file(self, place: Place) -> Path:
        return self._into / place.folder / place.name

    def _look_at_folder(self, folder: str) -> bool:
        """Is there a folder of this name, or room for one? A link to another folder is none of ours."""
        try:
            return stat.S_ISDIR(os.lstat(self._into / folder).st_mode)
        except FileNotFoundError:
            return True

    def _look(self, place: Place) -> _Done | None:
        """What there is to say of a place without reading its image; None if its file is to be made."""
        form, image, file = self._form(place), self._image(place), self._file(place)
        if not self._has_folder(place.folder):
            return _Done(place, "in_the_way", f"{place.folder} is no folder, and is left as it is")
        if os.path.lexists(file):
            made = self._record.made.get(f"{place.folder}/{place.name}")
            if made and is_as_made(made, file):
                if self._is_right(made, form, image, file):
                    return _Done(place, "there")
                if why := self._why_kept(made, file):
                    return _Done(place, "in_the_way", f"another image, and left, as {why}")
            elif form != "copy":
                return _Done(place, "there") if leads_to(file, image) else _in_the_way(place)
        return None if scheme(image) else self._look_at_image(place, image)

    def _look_at_image(self, place: Place, image: str) -> _Done | None:
        try:
            with disk_errors(image):
                is_file = stat.S_ISREG(os.stat(image).st_mode)
        except FileNotFoundError:
            is_file = False
        except (OSError, StorageError) as error:
            return _Done(place, "unreadable", str(error))
        return None if is_file else _Done(place, "gone")

    def _is_right(self, made: Made, form: Form, image: str, file: Path) -> bool:
        """Is a file that an earlier call made the one that would be made now?"""
        if made.form != form:
            return False
        is_same = made.source == _source(image)
        if form == "copy":
            return is_same
        if form == "hard":
            return leads_to(file, image) or (is_same and not os.path.exists(image))
        return leads_to(file, image) and made.proof == self._targets.find(image, file)

    def _why_kept(self, made: Made, file: Path) -> str:
        """Why a file of an earlier call is not removed; empty if it may be."""
        if not is_as_made(made, file):
            return "it was changed since"
        if made.form == "symlink":
            return ""
        if made.form == "hard":
            return "" if leads_to(file, made.source) else f"{made.source} is gone or another file now"
        try:
            return "" if self._stores(made.source).exists(made.source) else f"{made.source} is gone"
        except (OSError, StorageError, UsageError) as error:
            return f"{made.source} is not certain to be there ({error})"

    def _remove(self, place: str) -> None:
        (self._into / place).unlink()
        self._record.drop(place)

    def _read(self, place: Place) -> _Done | _Read:
        image = self._image(place)
        try:
            return _Read(place, self._stores(image).fetch(image, self._most_bytes))
        except (FileNotFoundError, IsADirectoryError):
            return _Done(place, "gone")
        except TooLarge:
            return _Done(place, "too_large")
        except (PermissionError, FileError) as error:
            return _Done(place, "unreadable", str(error))

    def _empty(self, place: Place) -> None:
        """Removes what an earlier call made in the place of an image that can't be there now."""
        key, file = f"{place.folder}/{place.name}", self._file(place)
        made = self._record.made.get(key)
        if made and not os.path.lexists(file):
            self._record.drop(key)
        elif made and not self._why_kept(made, file):
            self._remove(key)
            self._removed += 1

    def _make(self, one: _Read) -> _Done:
        place, file = one.place, self._file(one.place)
        key, image, form = f"{place.folder}/{place.name}", self._image(place), self._form(place)
        made = self._record.made.get(key)
        if os.path.lexists(file):
            if one.image and not (made and is_as_made(made, file)):
                return _Done(place, "there") if _has_bytes(file, one.image.data) else _in_the_way(place)
            self._remove(key)
        file.parent.mkdir(exist_ok=True)

        def note(proof: str) -> None:
            self._record.add(Made(key, _source(image), form, proof))

        try:
            if one.image:
                time_ns = None if scheme(image) else int(one.image.stamp["time"])
                make_copy(one.image.data, time_ns, file, note)
                return _Done(place, "copied")
            if form == "symlink":
                make_symlink(self._targets.find(image, file), file, note)
            else:
                make_hard_link(image, file, note)
            return _Done(place, "linked")
        except FileExistsError:  # it came this very moment
            self._record.drop(key)
            return _in_the_way(place)
        except BaseException:
            if key in self._record.made:
                self._record.drop(key)
            raise


def _source(image: str) -> str:
    """An image for the record, where no signature of a link belongs."""
    return image_name(image, "") if is_web(image) else image


def _in_the_way(place: Place) -> _Done:
    return _Done(place, "in_the_way", "another file is there, and is left as it is")


def _has_bytes(file: Path, data: bytes) -> bool:
    try:
        with disk_errors(str(file)):
            return read_file(file, len(data)) == data
    except (OSError, StorageError, TooLarge):
        return False
