"""Beam's import, without what it does to a program's logging."""

import contextlib
import logging
from collections.abc import Iterator


@contextlib.contextmanager
def own_logging() -> Iterator[None]:
    """Keeps Beam from setting up the program's logging, and from a notice, while it is imported or reads its flags.

    What it sets up would go to what is stderr in the block, for good. Its notice is that Google Cloud's clients are not
    installed, which only the extra for Dataflow brings.
    """
    root, handler = logging.getLogger(), logging.NullHandler()
    root.addHandler(handler)
    root.addFilter(_is_no_notice)
    try:
        yield
    finally:
        root.removeFilter(_is_no_notice)
        root.removeHandler(handler)


def _is_no_notice(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith("apitools not found")
