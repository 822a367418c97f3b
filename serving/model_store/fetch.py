"""A version of a model in a bucket, copied to a disk: TensorFlow reads no s3://, and a server starts from a folder."""

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from serving.errors import UsageError
from serving.model_store.choose_version import choose
from serving.model_store.versions import PUBLISHING, VersionFolder, versions, whole
from serving.storage.base import Storage
from serving.storage.transfer import NameLeadsOut, download

ASIDE = ".fetching"
"""A folder that no server takes for a version, as its name is not an integer."""


def fetch(version: VersionFolder, model: Path, storage: Storage) -> Path:
    """Copies a version in a bucket to `model/VERSION` on a disk, where it appears whole or not at all.

    What an earlier copy left that was interrupted is removed; so only one process may fetch to a folder at a time.

    Returns:
      The version's folder.

    Raises:
      NameLeadsOut: the bucket has a name that leads out of the version's folder.
      OSError, FlowImagesError: see `serving.storage.base.Storage`.
    """
    aside, target = model / ASIDE, model / str(version.number)
    shutil.rmtree(aside, ignore_errors=True)
    try:
        download(storage, {name: info for name, info in version.files.items() if name != PUBLISHING}, aside)
        aside.rename(target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return target


@contextlib.contextmanager
def local_copy(
    model: str,
    version: int | None,
    stores: Callable[[str], Storage],
) -> Iterator[Path]:
    """A temporary STORE/NAME folder with one version of a model in a bucket; it goes when the block ends.

    Args:
      model: STORE/NAME in a bucket.
      version: None for the highest one that is there whole.
      stores: gives the storage that holds a path.

    Raises:
      UsageError: there is no such version, or it can't be read.
    """
    storage = stores(model)
    try:
        found = whole(versions(model, storage))
        chosen = found[choose(model, found, version)]
        with tempfile.TemporaryDirectory(prefix="flow-images-model-") as temporary:
            copy = Path(temporary) / model.rstrip("/").rsplit("/", 1)[1]
            fetch(chosen, copy, storage)
            yield copy
    except (FileNotFoundError, PermissionError, NameLeadsOut) as error:
        raise UsageError(f"`model` {model}: {error}") from error
