"""Runs the trainer, which reads images from a disk, on images of a bucket.

    python -m k8s.pods.train_with_bucket … -- COMMAND

First copies `--fetch gs://…=FOLDER` to the disk, then runs the command, then copies new versions to
`--publish FOLDER=s3://…`, which TensorFlow can't write to. The exit code is the command's; 75 when the bucket fails
for now, and 2 when it can't become right, as a bucket that does not exist.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

import click

from k8s.lines import say
from k8s.pods import s3_copies
from serving.console.field_names import with_flags
from serving.errors import EXIT_RESUMABLE, FlowImagesError, UsageError


def fetch(source: str, folder: Path) -> int:
    """Copies a folder of gs:// or s3:// to the disk, and gives the number of files.

    Raises:
      UsageError: it can't become right by trying again; also a folder without a file.
      s3_copies.BucketUnavailable: it may.
    """
    if source.startswith("gs://"):
        count = _fetch_gs(source, folder)
    else:
        with s3_copies.plain_errors(source):
            client = s3_copies.client()
            files = s3_copies.keys(client, source)
            s3_copies.download(client, s3_copies.split(source)[0], files, folder)
            count = len(files)
    if not count:
        raise UsageError(f"{source}: there is no file below it")
    return count


def publish(client: Any, store: Path, target: str) -> list[str]:
    """Copies the MODEL/VERSION folders of a store to s3://, and gives their addresses.

    Raises:
      UsageError: a version is there already, as it is never overwritten; or the bucket can't be written to.
      s3_copies.BucketUnavailable: for now, it can't.
    """
    done = []
    for version in sorted(path.parent for path in store.glob(f"*/*/{s3_copies.COMPLETE}")):
        url = f"{target.rstrip('/')}/{version.relative_to(store).as_posix()}"
        with s3_copies.plain_errors(url):
            if s3_copies.COMPLETE in s3_copies.keys(client, url):
                raise UsageError(f"{url} exists already; a version is never overwritten: choose another VERSION")
            s3_copies.upload(client, version, url)
        done.append(url)
    return done


def _fetch_gs(source: str, folder: Path) -> int:
    # TensorFlow is in the trainer's image anyway, and reads gs:// with the pod's identity.
    import tensorflow as tf

    hopeless = (tf.errors.NotFoundError, tf.errors.InvalidArgumentError, tf.errors.UnimplementedError)
    try:
        return _copied_gs(tf, source, folder)
    except hopeless as error:
        raise UsageError(f"{source}: {error}") from error
    except tf.errors.PermissionDeniedError as error:
        # 401: the pod has no token yet, as just after its start, when workload identity isn't ready.
        kind = s3_copies.BucketUnavailable if "response code 401" in str(error) else UsageError
        raise kind(f"{source}: {error}") from error
    except tf.errors.OpError as error:
        raise s3_copies.BucketUnavailable(f"{source}: {error}") from error


def _copied_gs(tf: Any, source: str, folder: Path) -> int:
    files = tf.io.gfile
    root = source.rstrip("/")
    found = [f"{place}/{name}" for place, _, names in files.walk(root) for name in names]

    def copy(path: str) -> None:
        place = folder / path.removeprefix(f"{root}/")
        place.parent.mkdir(parents=True, exist_ok=True)
        files.copy(path, str(place), overwrite=True)

    s3_copies.together(copy, found)
    return len(found)


@click.command()
@click.option("--fetch", "fetched", metavar="URL=FOLDER", required=True, help="Copied to the disk first.")
@click.option("--publish", "published", metavar="FOLDER=URL", help="Model store that is copied to s3:// at the end.")
@click.argument("command", nargs=-1, required=True)
def main(fetched: str, published: str | None, command: tuple[str, ...]) -> None:
    """Run COMMAND on copies of what lies in a bucket."""
    source, _, folder = fetched.rpartition("=")
    if not source.startswith(("gs://", "s3://")):
        raise click.UsageError(f"--fetch must be gs://…=FOLDER or s3://…=FOLDER, not {fetched}")
    try:
        say(f"copied {fetch(source, Path(folder))} files from {source}")
        code = subprocess.run(command).returncode
        if code or not published:
            sys.exit(code if code >= 0 else 128 - code)
        store, _, target = published.partition("=")
        with s3_copies.plain_errors(target):
            client = s3_copies.client()
        for url in publish(client, Path(store), target):
            say(f"published {url}")
    except FlowImagesError as error:
        say(with_flags(str(error), main), err=True)
        sys.exit(error.exit_code)
    except OSError as error:  # The node's disk is full, or its network is gone; another node may do better.
        say(f"{source}: {error}", err=True)
        sys.exit(EXIT_RESUMABLE)


if __name__ == "__main__":
    main()
