"""What a bucket answers is final or may pass, for every program of the pods that asks one."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from k8s.pods import sync_models, train_with_bucket
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
        (400, "AuthorizationHeaderMalformed", 2),
    ],
)
def test_what_a_bucket_answers_is_final_or_may_pass(
    status: int, code: str, exit_code: int, answers: Answers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _ask(answers, monkeypatch)
    answers.status, answers.body = status, f"<Error><Code>{code}</Code><Message>m</Message></Error>".encode()
    _both_end_with(exit_code, "no bucket" if code == "NoSuchBucket" else code, tmp_path)


def test_a_bucket_that_cannot_be_reached_may_come_back(
    answers: Answers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _ask(answers, monkeypatch)
    answers.cut = True
    _both_end_with(75, "s3://b/images: ", tmp_path)
    answers.cut = False  # Cut off after its headers: boto3 takes it for an empty folder.
    _both_end_with(75, "the listing was cut off", tmp_path)
    for address in ("http://127.0.0.1:9", "http://name.invalid"):
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        _both_end_with(75, "Could not connect to the endpoint", tmp_path)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "not an address")
    _both_end_with(2, "Invalid endpoint", tmp_path)
    # A pod has no credentials right after its start, when workload identity isn't ready.
    monkeypatch.setenv("AWS_ENDPOINT_URL", answers.url)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    _both_end_with(75, "Unable to locate credentials", tmp_path)


@pytest.mark.parametrize(("status", "exit_code"), [(503, 75), (429, 75), (401, 75), (403, 2), (404, 2)])
def test_a_bucket_of_google_is_final_or_may_pass(
    status: int, exit_code: int, answers: Answers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("google.cloud.storage")
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", answers.url)
    answers.status, answers.body = status, b"{}"
    _both_end_with(exit_code, "gs://b/images: ", tmp_path, "gs://b/images")


def _ask(answers: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("boto3")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", answers.url)


def _both_end_with(exit_code: int, words: str, folder: Path, url: str = "s3://b/images") -> None:
    fetch = [f"--fetch={url}={folder}/x", "--patience=0", "--", "true"]
    fetched = CliRunner().invoke(train_with_bucket.main, fetch)
    synced = CliRunner().invoke(sync_models.main, [f"--source={url}", f"--target={folder}/y", "--patience=0"])
    for done in (fetched, synced):
        assert (done.exit_code, words in done.output) == (exit_code, True), done.output
        assert len(done.output.splitlines()) == 1
