"""Training on copies of a bucket."""

import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner

from k8s.pods import train_with_bucket
from serving.storage.stores import Stores


def test_training_runs_on_copies_of_a_bucket(s3_folder: str, tmp_path: Path) -> None:
    storage = Stores()(s3_folder)
    storage.create(f"{s3_folder}/images/labels.csv", b"id,breed")
    storage.create(f"{s3_folder}/images/train/a.jpg", b"jpg")
    program = [sys.executable, "-m", "k8s.pods.train_with_bucket"]
    fetch = f"--fetch={s3_folder}/images={tmp_path}/images"
    for command, code in (("test $(cat images/train/a.jpg) = jpg", 0), ("exit 4", 4), ("kill -TERM $$", -15)):
        done = subprocess.run(
            [*program, fetch, "--", "sh", "-c", f"cd {tmp_path} && {command}"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stderr
        assert done.stdout == f"copied 2 files from {s3_folder}/images\n"
    for source, why in (("s3://nobody/images", "no bucket"), (f"{s3_folder}/nothing", "no file below it")):
        gone = CliRunner().invoke(train_with_bucket.main, [f"--fetch={source}={tmp_path}/x", "--", "true"])
        assert (gone.exit_code, why in gone.output) == (2, True), gone.output
