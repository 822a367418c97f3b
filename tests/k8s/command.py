"""`flow-images` as its users call it: whole, with what `main` makes of errors, but within the tests' process."""

import contextlib
import io
import sys
from dataclasses import dataclass
from unittest import mock

import flow_images.cli


@dataclass(frozen=True)
class Ran:
    """What a command left."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def output(self) -> str:
        """Both, what was printed first."""
        return self.stdout + self.stderr


def deploy(*arguments: str) -> Ran:
    """Runs `flow-images deploy ARGUMENTS…`."""
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["flow-images", "deploy", *arguments]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            flow_images.cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
    return Ran(code, out.getvalue(), err.getvalue())
