"""Where the cluster is, and what its API server or something in its place answers."""

from pathlib import Path

import pytest

from tests.k8s.answers import Answers, kubeconfig
from tests.k8s.command import deploy


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "file is empty"),
        ("a: [", "expected the node content"),
        ("apiVersion: v1\nkind: Config\n", "Invalid kube-config file"),
        ("current-context: a\ncontexts: [{name: b, context: {cluster: c, user: d}}]\n", "Invalid kube-config"),
    ],
)
def test_a_kubeconfig_that_leads_nowhere(text: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "config").write_text(text)
    wrong = deploy("status", f"--kubeconfig={tmp_path}/config")
    assert wrong.exit_code == 1
    assert "no cluster can be reached" in wrong.stderr
    assert why in wrong.stderr
    assert len(wrong.stderr.splitlines()) == 1
    missing = deploy("status", f"--kubeconfig={tmp_path}/none")
    assert (missing.exit_code, "no cluster can be reached" in missing.stderr) == (1, True)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_an_api_server_that_is_busy_or_broken_may_be_asked_again(status: int, answers: Answers) -> None:
    answers.status, answers.body = status, b"<html>\x1b[31mbusy\x1b[0m\x07</html>"
    result = deploy("status", answers.kubeconfig)
    assert result.exit_code == 75
    assert f"answers {status}: <html>busy\\x07</html>; nothing was changed in the cluster" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_connection_that_breaks_or_a_name_that_is_not_found_may_pass(answers: Answers, tmp_path: Path) -> None:
    answers.cut = True
    for server in (answers.url, "https://127.0.0.1:9", "https://name.invalid"):
        result = deploy("status", f"--kubeconfig={kubeconfig(tmp_path, server)}")
        assert result.exit_code == 75, result.stderr
        assert f"no answer from the current context ({server})" in result.stderr
        assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("status", "body"), [(200, b"<html>"), (200, b"{}"), (200, b"[1]"), (200, b"\xff"), (404, b"?"), (302, b"")]
)
def test_a_server_that_is_no_kubernetes_is_called_so(status: int, body: bytes, answers: Answers) -> None:
    answers.status, answers.body = status, body
    result = deploy("status", answers.kubeconfig)
    assert result.exit_code == 1
    assert "does not answer as Kubernetes does" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("server", ["https://127.0.0.1", "localhost:6443", "http://[::1"])
def test_an_address_that_cannot_be_right_is_refused(server: str, answers: Answers, tmp_path: Path) -> None:
    port = answers.url.rpartition(":")[2]  # It speaks no TLS.
    config = kubeconfig(tmp_path, f"{server}:{port}" if server.startswith("https") else server)
    result = deploy("status", f"--kubeconfig={config}")
    assert result.exit_code == 1, result.stderr
    assert "can't be reached" in result.stderr or "no cluster can be reached" in result.stderr
    assert len(result.stderr.splitlines()) == 1
