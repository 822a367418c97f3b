"""The versions of TensorFlow that TensorFlow Serving's images carry, each in a virtual environment of its own.

python -m tests.older_tensorflow    installs them, once, into a cache outside the checkout (2.7 GB)
"""

import os
import subprocess
import sys
from pathlib import Path

VERSIONS = ("2.19.1", "2.20.0")
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "flow-images-tests"
_INSTALL_S = 300


def python_of(version: str) -> Path | None:
    """The Python that has this version; None before it is installed."""
    folder = _folder(version)
    return folder / "bin/python" if (folder / "installed").exists() else None


def install(version: str) -> None:
    """Makes the environment.

    Raises:
      subprocess.SubprocessError: the package registry does not give it, or not in time.
    """
    folder = _folder(version)
    folder.parent.mkdir(parents=True, exist_ok=True)
    uv = str(Path(sys.executable).with_name("uv"))
    subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)], check=True)
    command = [uv, "pip", "install", "--quiet", "--python", f"{folder}/bin/python", f"tensorflow-cpu=={version}"]
    subprocess.run(command, check=True, timeout=_INSTALL_S)
    (folder / "installed").touch()


def _folder(version: str) -> Path:
    return CACHE / f"tensorflow-{version}"


if __name__ == "__main__":
    for each in VERSIONS:
        if python_of(each) is None:
            install(each)
