"""Imports TensorFlow without its start-up messages, which come from native code below Python's logging.

And not where it would hang: its threads don't come along into a forked process, which then waits for them at the first
operation, without end. A process forked before TensorFlow ran anything is sound, whoever imported it.
"""

import contextlib
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from typing import IO

from serving.errors import UsageError
from serving.process.quick_import import left_out, no_collection
from serving.process.temporary_files import check_temporary_files

TENSORFLOW_BYTES = 600 * 2**20
"""Memory that TensorFlow takes once it is imported [measured with 2.21 on x86-64]."""

_KERAS = ("keras.src", "tf_keras.src")
"""What TensorFlow tries to import of Keras and of Keras 2, and does without."""


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


def import_tensorflow(*, keras: bool = True) -> None:
    """The first import of a process, silent; any later `import tensorflow` is at once.

    Args:
      keras: TensorFlow imports Keras in vain, with scikit-learn and matplotlib where they are installed, which is half
        of the time. False leaves that to the first use of `tf.keras`; for a process in which nobody loads Keras models.

    Raises:
      UsageError, DiskFull: see `check_not_forked`; there is no place for temporary files, of which TensorFlow writes
        some.
    """
    check_not_forked()
    if "tensorflow" in sys.modules:
        return
    check_temporary_files()
    # Its warnings are about what is raised or rejected anyway. A value that is set is respected.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with quiet_stderr(), no_collection(), left_out(*(() if keras else _KERAS)):
        import tensorflow as tf

        tf.config.list_physical_devices()  # writes to stderr which GPUs are missing


def check_not_forked() -> None:
    """Refuses a process that was forked after TensorFlow had run; any operation of TensorFlow would hang in it.

    Raises:
      UsageError: it is such a process.
    """
    if _threads_are_lost:
        raise UsageError(
            "this process was forked from one in which TensorFlow had run, and TensorFlow would hang here: start it "
            'with `spawn`, as multiprocessing.get_context("spawn") does, or fork before TensorFlow is used. A client '
            "with `wire` encoded needs no TensorFlow"
        )


def _has_run() -> bool:
    """Has TensorFlow run anything, here or in the process that this one was forked from? It has threads since then."""
    context = sys.modules.get("tensorflow.python.eager.context")
    # There is no public way to ask that does not itself start the threads.
    made = context.context_safe() if context is not None else None
    return getattr(made, "_context_handle", None) is not None


def _has_native_threads() -> bool:
    """Does this process have threads that Python did not start? True also where the system doesn't tell."""
    try:
        return len(os.listdir("/proc/self/task")) > threading.active_count()
    except OSError:
        return True


def _note_fork() -> None:
    global _threads_are_lost
    _threads_are_lost = _threads_are_lost or _has_run()


# The fork may also have come before this module.
_threads_are_lost = _has_run() and not _has_native_threads()
os.register_at_fork(after_in_child=_note_fork)
