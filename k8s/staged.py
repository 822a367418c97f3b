"""Runs the trainer, which reads pictures from a disk, on pictures of a bucket: `python -m k8s.staged … -- COMMAND`.

First copies `--fetch gs://…=FOLDER` to the disk, then runs the command, then copies new versions to
`--publish FOLDER=s3://…`, which TensorFlow can't write to. The exit code is the command's; 75 when the bucket fails.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

import click

from k8s import s3
from serving.errors import EXIT_RESUMABLE, EXIT_USAGE


def fetch(source: str, folder: Path) -> int:
    """Copies a folder of gs:// or s3:// to the disk, and gives the number of files."""
    if source.startswith("gs://"):
        return _fetch_gs(source, folder)
    client = s3.client()
    files = s3.keys(client, source)
    s3.download(client, s3.split(source)[0], files, folder)
    return len(files)


def publish(client: Any, store: Path, target: str) -> list[str]:
    """Copies the MODEL/VERSION folders of a store to s3://, and gives their addresses.

    Raises:
      FileExistsError: a version is there already; it is never overwritten.
    """
    done = []
    for version in sorted(path.parent for path in store.glob(f"*/*/{s3.COMPLETE}")):
        url = f"{target.rstrip('/')}/{version.relative_to(store).as_posix()}"
        if s3.COMPLETE in s3.keys(client, url):
            raise FileExistsError(f"{url} exists already; a version is never overwritten: choose another VERSION")
        s3.upload(client, version, url)
        done.append(url)
    return done


def _fetch_gs(source: str, folder: Path) -> int:
    # TensorFlow is in the trainer's image anyway, and reads gs:// with the pod's identity.
    import tensorflow as tf

    files = tf.io.gfile
    root = source.rstrip("/")
    found = [f"{place}/{name}" for place, _, names in files.walk(root) for name in names]

    def copy(path: str) -> None:
        place = folder / path.removeprefix(f"{root}/")
        place.parent.mkdir(parents=True, exist_ok=True)
        files.copy(path, str(place), overwrite=True)

    s3.together(copy, found)
    return len(found)


@click.command()
@click.option("--fetch", "fetch_", metavar="URL=FOLDER", required=True, help="Copied to the disk first.")
@click.option("--publish", "publish_", metavar="FOLDER=URL", help="Model store that is copied to s3:// at the end.")
@click.argument("command", nargs=-1, required=True)
def main(fetch_: str, publish_: str | None, command: tuple[str, ...]) -> None:
    """Run COMMAND on copies of what lies in a bucket."""
    source, _, folder = fetch_.rpartition("=")
    if not source.startswith(("gs://", "s3://")):
        raise click.UsageError(f"--fetch must be gs://…=FOLDER or s3://…=FOLDER, not {fetch_}")
    try:
        click.echo(f"copied {fetch(source, Path(folder))} files from {source}")
    except Exception as error:  # Of Google's, Amazon's and TensorFlow's libraries; all of them may pass.
        click.echo(f"{source}: {error}", err=True)
        sys.exit(EXIT_RESUMABLE)
    code = subprocess.run(command).returncode
    if code or not publish_:
        sys.exit(code if code >= 0 else 128 - code)
    store, _, target = publish_.partition("=")
    try:
        for url in publish(s3.client(), Path(store), target):
            click.echo(f"published {url}")
    except FileExistsError as error:
        click.echo(str(error), err=True)
        sys.exit(EXIT_USAGE)
    except Exception as error:
        click.echo(f"{target}: {error}", err=True)
        sys.exit(EXIT_RESUMABLE)


if __name__ == "__main__":
    main()
