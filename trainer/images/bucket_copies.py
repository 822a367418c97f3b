"""Labels and images in a bucket, copied to this machine once: TensorFlow reads each image in every epoch."""

import contextlib
import os
import posixpath
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path

from serving.console.terminal import printable
from serving.errors import DiskFull, FlowImagesError, UsageError
from serving.images.limits import ImageLimits
from serving.storage.base import FileInfo, Storage, scheme, shown
from serving.storage.explained_errors import explaining
from serving.storage.local_file import TooLarge
from serving.storage.transfer import download, files_below, together
from serving.text.utf8_files import as_utf8
from trainer.images.labels_csv import read_label_file
from trainer.progress import reporting

Note = Callable[[str], None]


class BucketCopies:
    """A temporary folder with copies of a bucket's files, each below its address: `…/gs/BUCKET/train/1.jpg`.

    Files that are not needed are empty files of the same name, so that checks of the copied folder give the same
    results: files that no label names, hidden ones, and those over the limit of an image, which keep their size.
    """

    def __init__(self, stores: Callable[[str], Storage], note: Note, limits: ImageLimits | None = None) -> None:
        """Copies nothing yet.

        Args:
          stores: gives the storage that holds a path.
          note: is told what is copied.
          limits: of images.
        """
        self._stores, self._note = stores, note
        self._limits = limits or ImageLimits()
        self._root: Path | None = None

    def __enter__(self) -> "BucketCopies":
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def remove(self) -> None:
        """Removes all copies; may be called from any thread, and twice."""
        if self._root is not None:
            shutil.rmtree(self._root, ignore_errors=True)

    def local(self, path: str) -> str:
        """Where the copy of a file or folder is, or would be; a path on a disk stays as it is."""
        kind = scheme(path)
        if not kind:
            return path
        return str(self._folder() / kind / shown(path).split("://", 1)[1])

    def original(self, path: str) -> str:
        """An image's name for the files that tell of a training: the address of a copy in its bucket, or the path."""
        if self._root is None or not Path(path).is_relative_to(self._root):
            return as_utf8(path)
        kind, *names = Path(path).relative_to(self._root).parts
        return as_utf8(f"{kind}://{'/'.join(names)}")

    @contextlib.contextmanager
    def original_names(self) -> Iterator[None]:
        """Errors in the block name the bucket's files, and not their copies."""
        try:
            yield
        except FlowImagesError as error:
            message, *more = error.args
            error.args = (self.named(str(message)), *more)
            raise

    def named(self, text: str) -> str:
        """A text for a user, with the addresses in the bucket in place of the copies' paths."""
        if self._root is not None:
            for folder in self._root.iterdir() if self._root.is_dir() else ():
                text = text.replace(f"{printable(str(folder))}/", f"{folder.name}://")
        return text

    def sources(
        self, labels: str | None, images: str | None, folder: str | None
    ) -> tuple[str | None, str | None, str | None]:
        """Copies what `labels`, `images` and `folder` name in buckets, and gives their paths on a disk.

        Of an image folder only those files are copied that a label names.
        """
        if not labels:
            return None, None, self.folder("folder", folder) if folder else None
        labels = self.file("labels", labels)
        named = [row.image for row in read_label_file(labels).rows]
        self.images(named)
        if images and scheme(images):
            names = {posixpath.normpath(name) for name in named}
            images = self.folder("images", images, names | {f"{name}.jpg" for name in names})
        return labels, images, None

    def file(self, field: str, path: str) -> str:
        """Copies a file that an option names, whatever its size, and gives the copy's path."""
        if not scheme(path):
            return path
        name = f"`{field}` {printable(shown(path))}"
        with explaining(f"{name} can't be read"), reporting(f"reading {printable(shown(path))}", self._note):
            place = self._place(path)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(self._stores(path).read(path))
        return str(place)

    def images(self, paths: Iterable[str]) -> None:
        """Copies single images; one that isn't there is left out, to be named by whoever looks for it."""
        wanted = {path for path in paths if scheme(path)}
        if not wanted:
            return
        self._note(f"copying {len(wanted):,} images to {self._folder()}")
        with reporting(f"copying {len(wanted):,} images", self._note), explaining("the images can't be copied"):
            together(self._copy_image, wanted)

    def _copy_image(self, path: str) -> None:
        place = self._place(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError), place.open("xb") as file:
            try:
                file.write(self._stores(path).read(path, self._limits.max_image_bytes))
            except TooLarge as error:
                file.truncate(error.args[0] if error.args else self._limits.max_image_bytes + 1)
            except FileNotFoundError:
                place.unlink()

    def folder(self, field: str, path: str, names: Collection[str] | None = None) -> str:
        """Copies a folder that an option names, and gives the copy's path.

        Args:
          field: for messages.
          path: of the folder.
          names: the files to copy, by their path below it; None for all but the hidden ones.

        Raises:
          UsageError: there is no such folder, or it can't be read.
          DiskFull: the copy would not fit.
          StorageUnavailable: the bucket is away.
        """
        if not scheme(path):
            return path
        name = f"`{field}` {printable(shown(path))}"
        place = self._place(path)
        with explaining(f"{name} can't be read"), reporting(f"listing {printable(shown(path))}", self._note):
            storage = self._stores(path)
            found = files_below(storage, path)
        if not found:
            raise UsageError(f"{name}: no such folder in the bucket, or nothing in it")
        copied = {key: info for key, info in found.items() if self._is_wanted(key, info, names)}
        size = sum(info.size or 0 for info in copied.values())
        if size > shutil.disk_usage(self._folder()).free:
            raise DiskFull(
                f"{name}: {len(copied):,} files of {size / 1e9:,.1f} GB don't fit on the disk of {self._folder()}: "
                "make room, or let TMPDIR name a folder on another disk, and repeat the command"
            )
        said = f"{len(copied):,} files ({size / 1e6:,.0f} MB) from {printable(shown(path))}"
        self._note(f"copying {said} to {self._folder()}")
        with explaining(f"{name} can't be copied"), reporting(f"copying {said}", self._note):
            download(storage, copied, place)
            for key in found.keys() - copied.keys():
                _leave_empty(place, key, found[key].size or 0)
        return str(place)

    def _is_wanted(self, key: str, info: FileInfo, names: Collection[str] | None) -> bool:
        if (info.size or 0) > self._limits.max_image_bytes:
            return False
        if names is not None:
            return key in names
        return not any(part.startswith(".") for part in key.split("/"))

    def _folder(self) -> Path:
        if self._root is None:
            with explaining("there is no place for copies of the images: set TMPDIR"):
                self._root = Path(tempfile.mkdtemp(prefix="flow-images-train-")).resolve()
        return self._root

    def _place(self, path: str) -> Path:
        place = Path(os.path.normpath(self.local(path)))
        if not place.is_relative_to(self._folder()):
            raise UsageError(f"{printable(shown(path))}: a name that leads out of its bucket")
        return place


def _leave_empty(folder: Path, key: str, size: int) -> None:
    """Makes a sparse file of a size, in place of one whose bytes are not needed."""
    place = Path(os.path.normpath(folder / key))
    if place.is_relative_to(folder):
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("wb") as file:
            file.truncate(size)
