"""Imports TensorFlow without its start-up messages, which come from native code below Python's logging."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from typing import IO

from serving.temporary_files import check_temporary_files


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """Holds back what native code writes to stderr; it is written after all if the block fails."""
    sys.stderr.flush()
    saved = os.dup(2)
    with _unnamed_file() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except Exception:
            held.seek(0)
            os.write(saved, held.read())
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)


def _unnamed_file() -> IO[bytes]:
    """A file in memory where the system has that, so that a full disk does no harm."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("stderr"), "w+b")
    return tempfile.TemporaryFile()


def import_tensorflow() -> None:
    """The first import of a process, silent; any later `import tensorflow` is at once.

    Raises:
      UsageError, DiskFull: there is no place for temporary files, of which TensorFlow writes some.
    """
    if "tensorflow" in sys.modules:
        return
    check_temporary_files()
    with quiet_stderr():
        import tensorflow as tf

        tf.config.list_physical_devices()  # writes to stderr which GPUs are missing
