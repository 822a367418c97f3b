"""A model version in a bucket, copied to a disk: TensorFlow reads no s3://, and a server starts from a folder."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from serving.errors import UsageError
from serving.storage.stores import Stores

_SAVED_MODEL = "saved_model.pb"


@contextlib.contextmanager
def local_copy(
    folder: str,
    version: int | None,
    stores: Stores | None = None,
) -> Iterator[Path]:
    """A temporary STORE/NAME folder with one version of a model in a bucket; it goes when the block ends.

    Args:
      folder: gs://… or s3://…, STORE/NAME.
      version: None for the highest one that is there whole.
      stores: None for ones of its own.
    Raises:
      UsageError: there is no such version, or it can't be read.
    """
    storage = (stores or Stores())(folder)
    root = folder.rstrip("/") + "/"
    try:
        names = [info.path.removeprefix(root) for info in storage.walk(folder)]
        there = {int(name.split("/")[0]) for name in names if name.split("/")[0].isdigit() and _is_model(name)}
        if not there or version not in {None, *there}:
            raise UsageError(f"--model {folder}: no version {'' if version is None else version} with a {_SAVED_MODEL}")
        chosen = max(there) if version is None else version
        with tempfile.TemporaryDirectory(prefix="flow-images-model-") as temporary:
            copy = Path(temporary) / folder.rstrip("/").rsplit("/", 1)[1]
            for name in names:
                head, _, rest = name.partition("/")
                if head.isdigit() and int(head) == chosen:
                    target = (copy / str(chosen) / rest).resolve()
                    if not target.is_relative_to(copy.resolve()):
                        raise UsageError(f"--model {root + name}: an object's name that leads out of its folder")
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(storage.read(root + name))
            yield copy
    except (FileNotFoundError, PermissionError) as error:
        raise UsageError(f"--model {folder}: {error}") from error


def _is_model(name: str) -> bool:
    return name.split("/")[1:] == [_SAVED_MODEL]
