"""DeployError: what `flow-images deploy` says in one line, and its exit code."""


class DeployError(Exception):
    """A plain sentence that names the object and the way out."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code
