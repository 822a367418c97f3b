"""Finds a worker's error again as the worker raised it, after it went through a Beam runner.

The local runner adds the name of a step to the message. A runner elsewhere sends the error as text between processes.
"""

import contextlib
import logging
import re
from collections.abc import Iterator

from serving.errors import FlowImagesError

_STEP = re.compile(r" \[while running '[^']*'\]")
"""What Beam adds to an error's message. Users need the file or the server, not the step."""


@contextlib.contextmanager
def worker_errors() -> Iterator[None]:
    """Raises what a runner raises in the block as a FlowImagesError: the worker's own where there is one.

    The stack trace that Beam logs for an error of ours is kept out of the log: a user is told once, in a line.
    """
    logger, unless_ours = logging.getLogger("apache_beam.runners.common"), _UnlessOurs()
    logger.addFilter(unless_ours)
    try:
        yield
    except FlowImagesError as error:
        error.args = (_STEP.sub("", str(error.args[0])), *error.args[1:])
        raise
    except Exception as error:
        raise error_from_text(f"{type(error).__name__}: {error}") from error
    finally:
        logger.removeFilter(unless_ours)


def error_from_text(text: str) -> FlowImagesError:
    """The last error of ours that a runner's text has; if there is none, one that says that the runner failed."""
    kinds = {kind.__name__: kind for kind in error_classes()}
    found = re.findall(rf"\b({'|'.join(kinds)}): (.+?)(?: \[while running.*)?$", text, re.MULTILINE)
    if found:
        name, message = found[-1]
        return kinds[name](message)
    return FlowImagesError(f"the Beam runner failed: {text}")


def error_classes() -> list[type[FlowImagesError]]:
    """FlowImagesError and all classes below it."""
    found = [FlowImagesError]
    for kind in found:  # which grows meanwhile
        found += [child for child in kind.__subclasses__() if child not in found]
    return found


class _UnlessOurs(logging.Filter):
    """Drops records about errors of ours."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], FlowImagesError))
