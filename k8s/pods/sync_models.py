"""Copies new model versions from a bucket to a folder beside the server, which can't read it.

    python -m k8s.pods.sync_models --source s3://… --target FOLDER

TensorFlow Serving can't read s3://, and loads a version folder as soon as it sees it. So each version is copied aside
and renamed into place, and only once it is whole.
"""

import shutil
import sys
import time
from pathlib import Path

import click

from k8s.plain_lines import say
from k8s.pods.pod_errors import BUCKETS, errors_for_pods
from serving.console.option_flags import Number
from serving.errors import FlowImagesError
from serving.model_store.fetch import fetch
from serving.model_store.versions import versions, versions_on_disk, whole
from serving.network.retry import RetryPolicy
from serving.storage.base import Storage
from serving.storage.stores import Stores


def sync(storage: Storage, source: str, target: Path, keep: int, pinned: int | None = None) -> list[int]:
    """Makes the target hold the newest `keep` versions and a pinned one, and gives those that it copied just now.

    Versions that are no longer wanted are removed last, so that there is always a model. A source without
    any version changes nothing: an empty answer is more likely an error than intended.
    """
    found = whole(versions(source, storage))
    # The pinned one first: it is the one that is served.
    wanted = [v for v in found if v == pinned] + [v for v in sorted(found)[-keep:][::-1] if v != pinned]
    model = target / source.rstrip("/").rpartition("/")[2]
    missing = [version for version in wanted if not (model / str(version)).exists()]
    for version in missing:
        fetch(found[version], model, storage)
    for old in versions_on_disk(model).values() if wanted else ():
        if old.number not in wanted:
            shutil.rmtree(old.path)
    return missing


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
@click.option("--patience", "patience_s", type=Number(min=0), default=30, show_default=True,
              help="Seconds to go on trying, at each look, while the bucket is away.")  # fmt: skip
def main(source: str, target: Path, keep: int, pinned: int | None, every: float | None, patience_s: float) -> None:
    """Copy new model versions from a bucket, once or for ever.

    Exit codes when once: 0 done, 1 a name leads out of the folder, 2 it can't become right, 75 it may.
    """
    if not source.startswith(BUCKETS) or "/" not in source.partition("://")[2].strip("/"):
        raise click.UsageError(f"--source must be s3://BUCKET/…/MODEL, or so in gs:// or az://, not {source}")
    stores = Stores(policy=RetryPolicy(patience_s=patience_s))
    while True:
        try:
            with errors_for_pods(source):
                copied = sync(stores(source), source, target, keep, pinned)
            for version in copied:
                say(f"copied version {version}")
        except FlowImagesError as error:
            say(str(error), err=True)
            if every is None:
                sys.exit(error.exit_code)
        if every is None:
            return
        time.sleep(every)


if __name__ == "__main__":
    main()
