"""What a bucket of S3 answers is final or may pass; and the order of an upload."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from k8s.pods import s3_copies, sync_models, train_with_bucket
from serving.errors import FlowImagesError
from tests.k8s.answers import Answers


@pytest.mark.parametrize(
    ("status", "code", "exit_code"),
    [
        (503, "SlowDown", 75),
        (500, "InternalError", 75),
        (429, "TooManyRequests", 75),
        (400, "ExpiredToken", 75),
        (403, "AccessDenied", 2),
        (403, "InvalidAccessKeyId", 2),
        (404, "NoSuchBucket", 2),
    ],
)
def test_what_a_bucket_answers_is_final_or_may_pass(
    status: int, code: str, exit_code: int, answers: Answers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _ask(answers, monkeypatch)
    answers.status, answers.body = status, f"<Error><Code>{code}</Code><Message>m</Message></Error>".encode()
    _both_end_with(exit_code, code, tmp_path)
    # An upload is wrapped in an error of its own.
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / s3_copies.COMPLETE).touch()
    with pytest.raises(FlowImagesError) as error, s3_copies.plain_errors("s3://b/m"):
        s3_copies.upload(s3_copies.client(), tmp_path / "model", "s3://b/m")
    assert error.value.exit_code == exit_code


def test_a_bucket_that_cannot_be_reached_may_come_back(
    answers: Answers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _ask(answers, monkeypatch)
    answers.cut = True
    _both_end_with(75, "s3://b/pictures: ", tmp_path)
    answers.cut = False  # Cut off after its headers: boto3 takes it for an empty folder.
    _both_end_with(75, "the listing was cut off", tmp_path)
    for address in ("http://127.0.0.1:9", "http://name.invalid"):
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        _both_end_with(75, "Could not connect to the endpoint", tmp_path)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "not an address")
    _both_end_with(2, "Invalid endpoint", tmp_path)


def _ask(answers: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("boto3")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", answers.url)
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda _: None)  # Between its own retries.


def _both_end_with(exit_code: int, words: str, folder: Path) -> None:
    fetched = CliRunner().invoke(train_with_bucket.main, [f"--fetch=s3://b/pictures={folder}/x", "--", "true"])
    synced = CliRunner().invoke(sync_models.main, ["--source=s3://b/pictures", f"--target={folder}/y"])
    for done in (fetched, synced):
        assert (done.exit_code, words in done.output) == (exit_code, True), done.output
        assert len(done.output.splitlines()) == 1


def test_what_makes_a_version_whole_is_uploaded_last(tmp_path: Path) -> None:
    sent: list[str] = []

    class Client:
        def upload_file(self, path: str, bucket: str, key: str) -> None:
            sent.append(key)

    for name in ("saved_model.pb", "variables/a", "assets/b"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    s3_copies.upload(Client(), tmp_path, "s3://bucket/models/dogs/7")
    assert sorted(sent[:2]) == ["models/dogs/7/assets/b", "models/dogs/7/variables/a"]
    assert sent[2:] == ["models/dogs/7/saved_model.pb"]
