"""Training on copies of a bucket."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from k8s.pods import train_with_bucket


def test_training_runs_on_copies_of_a_bucket(store: Any, tmp_path: Path) -> None:
    store.put_object(Bucket="bucket", Key="pictures/labels.csv", Body=b"id,breed")
    store.put_object(Bucket="bucket", Key="pictures/train/a.jpg", Body=b"jpg")
    train = "test $(cat pictures/train/a.jpg) = jpg && mkdir -p models/dogs/7 && touch models/dogs/7/saved_model.pb"
    arguments = [
        f"--fetch=s3://bucket/pictures={tmp_path}/pictures",
        f"--publish={tmp_path}/models=s3://bucket/models",
        "--",
        "sh",
        "-c",
    ]
    done = CliRunner().invoke(train_with_bucket.main, [*arguments, f"cd {tmp_path} && {train}"])
    assert done.exit_code == 0, done.output
    assert "published s3://bucket/models/dogs/7" in done.output
    again = CliRunner().invoke(train_with_bucket.main, [*arguments, f"cd {tmp_path} && {train}"])
    assert again.exit_code == 2
    assert "s3://bucket/models/dogs/7 exists already" in again.output
    assert CliRunner().invoke(train_with_bucket.main, [*arguments, "exit 2"]).exit_code == 2
    for source, why in (("s3://nobody/pictures", "no such bucket"), ("s3://bucket/nothing", "no file below it")):
        gone = CliRunner().invoke(train_with_bucket.main, [f"--fetch={source}={tmp_path}/x", "--", "true"])
        assert (gone.exit_code, why in gone.output) == (2, True), gone.output


def test_a_bucket_of_google_is_final_or_may_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    errors = pytest.importorskip("tensorflow").errors

    def fails(error: Exception) -> int:
        def walk(_: str) -> Iterator[Any]:
            raise error

        monkeypatch.setattr("tensorflow.io.gfile.walk", walk)
        return (
            CliRunner()
            .invoke(train_with_bucket.main, [f"--fetch=gs://b/pictures={tmp_path}/x", "--", "true"])
            .exit_code
        )

    assert fails(errors.UnavailableError(None, None, "HTTP response code 503")) == 75
    assert fails(errors.AbortedError(None, None, "Couldn't resolve host name")) == 75
    assert fails(errors.PermissionDeniedError(None, None, "HTTP response code 401")) == 75
    assert fails(errors.PermissionDeniedError(None, None, "HTTP response code 403")) == 2
    assert fails(errors.NotFoundError(None, None, "HTTP response code 404")) == 2
