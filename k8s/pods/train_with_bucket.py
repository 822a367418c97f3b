"""Copies the images of a bucket to the pod's disk, and then runs the trainer in its place, on that copy.

    python -m k8s.pods.train_with_bucket --fetch gs://…=FOLDER -- COMMAND

The exit code is the command's; 75 when the bucket fails for now, and 2 when it can't become right, as a bucket that
does not exist.
"""

import os
import sys
from pathlib import Path

import click

from k8s.plain_lines import say
from k8s.pods.pod_errors import BUCKETS, errors_for_pods
from serving.console.option_flags import Number
from serving.errors import FlowImagesError, UsageError
from serving.network.retry import RetryPolicy
from serving.storage.base import Storage
from serving.storage.stores import Stores
from serving.storage.transfer import download, files_below


def fetch(storage: Storage, source: str, folder: Path) -> int:
    """Copies a folder of a bucket to the disk, and gives the number of files.

    Raises:
      UsageError: there is no file in it.
      OSError, FlowImagesError: see `serving.storage.base.Storage`.
    """
    files = files_below(storage, source)
    if not files:
        raise UsageError(f"{source}: there is no file below it")
    download(storage, files, folder)
    return len(files)


@click.command()
@click.option("--fetch", "fetched", metavar="URL=FOLDER", required=True, help="Copied to the disk first.")
@click.option(
    "--patience",
    "patience_s",
    type=Number(min=0),
    default=RetryPolicy().patience_s,
    show_default=True,
    help="Seconds to go on trying while the bucket is away.",
)
@click.argument("command", nargs=-1, required=True)
def main(fetched: str, patience_s: float, command: tuple[str, ...]) -> None:
    """Run COMMAND on a copy of what lies in a bucket."""
    source, _, folder = fetched.rpartition("=")
    if not source.startswith(BUCKETS):
        raise click.UsageError(f"--fetch must be gs://…=FOLDER, s3://…=FOLDER or az://…=FOLDER, not {fetched}")
    try:
        with errors_for_pods(source):
            count = fetch(Stores(policy=RetryPolicy(patience_s=patience_s))(source), source, Path(folder))
        say(f"copied {count} files from {source}")
    except FlowImagesError as error:
        say(str(error), err=True)
        sys.exit(error.exit_code)
    sys.stdout.flush()
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
