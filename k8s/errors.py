"""DeployError: what `flow-images deploy` says in one line, and its exit code."""

from serving.errors import EXIT_FAILED, FlowImagesError


class DeployError(FlowImagesError):
    """A plain sentence that names the object and the way out."""

    def __init__(self, message: str, exit_code: int = EXIT_FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Forbidden(DeployError):
    """The user has no right to do this."""


class Unreachable(DeployError):
    """The cluster gives no answer, or none for now; asked again, it may."""
