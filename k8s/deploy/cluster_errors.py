"""Errors of `flow-images deploy`.

All errors are drawn in `serving.errors`.
"""

from collections.abc import Mapping

from k8s.plain_lines import plain
from serving.errors import EXIT_FAILED, EXIT_RESUMABLE, EXIT_USAGE, FlowImagesError, Resumable


class DeployError(FlowImagesError):
    """A message in one line that names the object and the fix."""

    def __init__(self, message: str, exit_code: int = EXIT_FAILED) -> None:
        super().__init__(plain(message), exit_code)
        self.exit_code = exit_code


class Forbidden(DeployError):
    """The user has no right to do this."""


class Foreign(DeployError):
    """An object of this name belongs to somebody else, so it is neither changed nor deleted."""

    def __init__(self, message: str, exit_code: int = EXIT_USAGE) -> None:
        super().__init__(message, exit_code)


class Unreachable(DeployError, Resumable):
    """The cluster gives no answer, or none for now; asked again, it may."""

    def __init__(self, message: str, exit_code: int = EXIT_RESUMABLE) -> None:
        super().__init__(message, exit_code)


class StillThere(DeployError):
    """The command ends, and what it has applied goes on in the cluster."""


class Conflict(DeployError):
    """The object is not as it was when it was read, or others manage fields that would be changed."""

    def __init__(self, message: str, holders: Mapping[str, list[str]] | None = None) -> None:
        super().__init__(message)
        self.holders = holders or {}
        self.args = (self.args[0], self.holders)
        """Field manager -> its fields that would be changed; empty if the object itself was another one."""
