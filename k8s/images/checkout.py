"""The checkout that images are built from: which commit it is, and its files as git knows them."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from serving.errors import UsageError

CONTEXT = ("pyproject.toml", "constraints.txt", "LICENSE", "README.md",
           "beam_jobs", "flow_images", "k8s", "serving", "trainer")  # fmt: skip
"""What the Containerfile copies from."""


@dataclass(frozen=True)
class Commit:
    """What a checkout is at."""

    revision: str
    """The commit's hash; it ends in `-dirty` where files of the context differ from it."""
    described: str
    """What `git describe` says, such as `v0.1.0-3-g1a2b3c4`."""
    time: int
    """When it was made, in seconds since 1970, unless SOURCE_DATE_EPOCH says another."""

    @property
    def is_dirty(self) -> bool:
        """Do files differ from the commit?"""
        return self.revision.endswith("-dirty")


def git(root: Path, *arguments: str) -> str:
    """What git prints.

    Raises:
      UsageError: the folder is no checkout, or git is not installed.
    """
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True)
    except FileNotFoundError:
        raise UsageError("git is not installed; it says which files belong into an image.") from None
    if done.returncode:
        said = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[0]
        raise UsageError(f"{root} must be a checkout of git, which says what belongs into an image: {said}")
    return done.stdout


def commit(root: Path) -> Commit:
    """What the checkout at this folder is at."""
    dirty = "-dirty" if git(root, "status", "--porcelain", "--", *CONTEXT) else ""
    revision, time = git(root, "log", "-1", "--format=%H %ct").split()
    described = git(root, "describe", "--tags", "--always").strip()
    return Commit(revision + dirty, described + dirty, int(os.environ.get("SOURCE_DATE_EPOCH") or time))


def copy_context(root: Path, folder: Path) -> None:
    """Copies what images are built from, without anything that git ignores: no build output or secret gets in."""
    listed = git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *CONTEXT)
    for name in filter(None, listed.split("\0")):
        if (root / name).is_file():  # git lists files that were deleted, until that is committed
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, folder / name)
