"""`flow-images deploy`: its flags, and output that nobody reads."""

import os
import subprocess
import sys

import pytest

from tests.k8s.builds import K8S, kubectl
from tests.k8s.command import deploy

needs_kubectl = pytest.mark.skipif(kubectl() is None, reason="needs kubectl")


@needs_kubectl
def test_a_value_that_is_no_text_is_refused() -> None:
    for words in (["--labels=a\udcff"], ["--", "--seed=a\udcff"]):
        result = deploy("train", "--dry-run=client", *words)
        assert result.exit_code == 2
        assert result.stderr.endswith("a\\udcff is not UTF-8\n")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["rollback", "--version=0"], "0 is not in the range 1<=x<=9223372036854775807"),
        (["rollback"], "Missing option '--version'"),
        (["train", "--name=a/b"], "it becomes part of URLs"),
        (["serve", '--model-name=a" base_path: "/etc'], "it becomes part of URLs"),
        (["predict", "gs://bucket/photos"], "'gs://bucket/photos' is not expected here"),
        (["predict", "--job-name=Photos_2"], "expected up to 52 lower case letters"),
        (["predict", f"--job-name={'a' * 53}"], "expected up to 52 lower case letters"),
        (["predict", "--shards=0"], "0 is not in the range 1<=x<=100000"),
        (["predict", "--top-k=3"], "No such option"),
        (["serve", "--timeout=-1"], "-1.0 is not in the range x>=0"),
        (["launch"], "No such command 'launch'"),
        (["serve", "--timeout=nan"], "nan is not a finite number"),
        (["serve", "--timeout=inf"], "inf is not a finite number"),
        (["rollback", f"--version={2**63}"], "is not in the range 1<=x<=9223372036854775807"),
        (["train", f"--version={2**63}"], "is not in the range 1<=x<=9223372036854775807"),
        (["train", "--epochs=100001"], "is not in the range 1<=x<=100000"),
        (["predict", "--shards=100001"], "is not in the range 1<=x<=100000"),
        (["predict", "--batch-size=4097"], "is not in the range 1<=x<=4096"),
        (["serve", "--replicas=2147483648"], "is not in the range 0<=x<=10000"),
        (["status", "-n", "a/b"], "expected up to 63 lower case letters"),
        (["suspend", "../pods/p"], "expected up to 52 lower case letters"),
    ],
)
def test_wrong_flags_are_exit_code_2(words: list[str], why: str) -> None:
    wrong = deploy(*words)
    assert (wrong.exit_code, wrong.stdout) == (2, "")
    assert why in wrong.stderr


@needs_kubectl
@pytest.mark.parametrize(
    ("nobody", "said"),
    [("closed", ""), ("full", "flow-images: stdout can't be written to: No space left on device\n")],
)
def test_what_nobody_reads_is_no_error(nobody: str, said: str) -> None:
    if nobody == "closed":
        reads, writes = os.pipe()
        os.close(reads)
    else:
        writes = os.open("/dev/full", os.O_WRONLY)
    command = [sys.executable, "-m", "flow_images", "deploy", "serve", "--dry-run=client"]
    done = subprocess.run(command, stdout=writes, stderr=subprocess.PIPE, text=True, cwd=K8S.parent)
    os.close(writes)
    assert (done.returncode, done.stderr) == (0, said)
