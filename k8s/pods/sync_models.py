"""Copies new model versions from s3:// to a folder beside the server: `python -m k8s.pods.sync_models --source s3://…`.

TensorFlow Serving can't read s3://, and loads a version folder as soon as it sees it. So each version is copied aside
and renamed into place, and only once it is whole: `saved_model.pb` is published last.
"""

import shutil
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import click

from k8s.lines import say
from k8s.pods import s3_copies
from serving.console.field_names import with_flags
from serving.console.flag_types import Number
from serving.errors import EXIT_RESUMABLE, FlowImagesError

ASIDE = ".incoming"


def published(client: Any, source: str) -> dict[int, dict[str, str]]:
    """The whole versions in a model's folder: version -> path in the version -> key."""
    versions: dict[int, dict[str, str]] = defaultdict(dict)
    for name, key in s3_copies.keys(client, source).items():
        version, _, path = name.partition("/")
        if version.isdecimal() and path:
            versions[int(version)][path] = key
    return {version: files for version, files in versions.items() if s3_copies.COMPLETE in files}


def sync(client: Any, source: str, target: Path, keep: int, pinned: int | None = None) -> list[int]:
    """Makes the target hold the newest `keep` versions and a pinned one, and gives those that it copied just now.

    Versions that are no longer wanted go last, so that there is never a moment without a model. A source without
    any version changes nothing: an empty answer is more likely a mistake than a wish.
    """
    bucket, prefix = s3_copies.split(source)
    versions = published(client, source)
    # The pinned one first: it is the one that is served.
    wanted = [v for v in versions if v == pinned] + [v for v in sorted(versions)[-keep:][::-1] if v != pinned]
    folder = target / Path(prefix).name
    copied = []
    for version in wanted:
        if not (folder / str(version)).exists():
            aside = target / ASIDE
            shutil.rmtree(aside, ignore_errors=True)  # What an interrupted copy left.
            s3_copies.download(client, bucket, versions[version], aside)
            folder.mkdir(parents=True, exist_ok=True)
            aside.rename(folder / str(version))
            copied.append(version)
    for old in folder.iterdir() if wanted else ():
        if old.name.isdecimal() and int(old.name) not in wanted:
            shutil.rmtree(old)
    return copied


@click.command()
@click.option("--source", required=True, help="s3://BUCKET/…/MODEL, the folder of the versions.")
@click.option("--target", required=True, type=click.Path(path_type=Path), help="Local folder that gets MODEL/VERSION.")
@click.option("--keep", type=click.IntRange(min=1), default=2, show_default=True, help="How many of the newest.")
@click.option(
    "--pinned",
    type=click.IntRange(min=1),
    envvar="PINNED_VERSION",
    help="A version that stays, however many are newer.",
)
@click.option("--every", type=Number(min=0, min_open=True), help="Seconds between two looks; by default only one look.")
def main(source: str, target: Path, keep: int, pinned: int | None, every: float | None) -> None:
    """Copy new model versions from S3, once or for ever.

    Exit codes when once: 0 done, 1 a key leads out of the folder, 2 it can't become right, 75 it may.
    """
    if not source.startswith("s3://") or "/" not in source.removeprefix("s3://").strip("/"):
        raise click.UsageError(f"--source must be s3://BUCKET/…/MODEL, not {source}")
    client = None
    while True:
        try:
            with s3_copies.plain_errors(source):
                client = client or s3_copies.client()
                copied = sync(client, source, target, keep, pinned)
            for version in copied:
                say(f"copied version {version}")
        except (FlowImagesError, OSError) as error:
            say(with_flags(str(error), main) if isinstance(error, FlowImagesError) else f"{source}: {error}", err=True)
            if every is None:
                sys.exit(error.exit_code if isinstance(error, FlowImagesError) else EXIT_RESUMABLE)
        if every is None:
            return
        time.sleep(every)


if __name__ == "__main__":
    main()
