"""Python programs of ours as child processes, which import nothing from the working directory or from beside it."""

import os
import sys
from pathlib import Path

# Our own packages come after Python's and before all that is installed: a checkout may hold files of any name, and
# another release may be installed.
_START = """
import os, runpy, sys
root, module = sys.argv[1:3]
del sys.argv[1:3]
sys.path.insert(sys.path.index(os.path.dirname(os.__file__)) + 1, root)
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""


def python_command(module: str, *arguments: str) -> list[str]:
    """The command that runs one of our modules as `python -m` does; to be started with `python_environment()`."""
    root = str(Path(__file__).resolve().parents[2])
    return [sys.executable, "-P", "-c", _START, root, module, *arguments]


def python_environment() -> dict[str, str]:
    """This process's environment, in whose PYTHONPATH are absolute paths only and not the working directory."""
    try:
        here = os.getcwd()
    except FileNotFoundError:  # it was deleted, so there is nothing in it
        here = ""
    entries = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    paths = [path for path in entries if os.path.isabs(path) and os.path.realpath(path) != here]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
