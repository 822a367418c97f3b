"""The client's parts that need no cluster: words, overlays, waiting for a model, copying versions from S3."""

import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from click.testing import CliRunner

from k8s import lines
from k8s.deploy import explain, follow, overlay, ownership
from k8s.deploy.cluster import Cluster
from k8s.deploy.errors import DeployError, Unreachable
from k8s.pods import sync_models, train_with_bucket, wait_for_model
from serving.errors import FlowImagesError
from serving.model_store.fetch import ASIDE
from serving.storage.stores import Stores
from tests.k8s.builds import K8S, compose, kubectl, one
from tests.k8s.command import deploy

POD = "/spec/template/spec"
needs_kubectl = pytest.mark.skipif(kubectl() is None, reason="needs kubectl")


def _pod(status: dict[str, Any], limit: str = "2Gi") -> dict[str, Any]:
    container = {"name": "predict", "resources": {"limits": {"memory": limit}}}
    return {"metadata": {"name": "p-0-x"}, "spec": {"containers": [container]}, "status": status}


def _ended(code: int, reason: str = "Error") -> dict[str, Any]:
    state = {"terminated": {"exitCode": code, "reason": reason}}
    phase = "Failed" if code else "Succeeded"
    return {"phase": phase, "containerStatuses": [{"name": "predict", "image": "i", "state": state}]}


def _waiting(reason: str, message: str = "because", **more: Any) -> dict[str, Any]:
    state = {"waiting": {"reason": reason, "message": message}}
    return {"phase": "Pending", "containerStatuses": [{"name": "predict", "image": "i:1", "state": state, **more}]}


def _unscheduled(message: str) -> dict[str, Any]:
    return {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "message": message}]}


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (_ended(75), "p-0-x: predict ended with exit code 75 (stopped, and is resumed by a retry)"),
        (_ended(1), "p-0-x: predict ended with exit code 1 (failed, and a rerun won't help: its log says why)"),
        (_ended(137, "OOMKilled"), "ran out of memory and was killed: raise its limit of 2Gi"),
        (_ended(139), "ended with exit code 139 (Error)"),
        (_waiting("ImagePullBackOff"), "image i:1 can't be pulled; push it"),
        (_waiting("CreateContainerConfigError", 'configmap "x" not found'), 'can\'t be started: configmap "x"'),
        (
            _waiting("CrashLoopBackOff", lastState=_ended(1)["containerStatuses"][0]["state"]),
            "restarts again and again; predict ended with exit code 1",
        ),
        (_unscheduled("0/3 nodes are available: 3 Insufficient nvidia.com/gpu."), "no node has a free GPU"),
        (_unscheduled("pod has unbound immediate PersistentVolumeClaims"), "its volume isn't there"),
        (_unscheduled("1 node(s) had untolerated taint {a: b}"), "no node fits its selector or taints"),
        (_unscheduled("0/1 nodes are available: 1 Insufficient cpu."), "1 Insufficient cpu"),
        ({"phase": "Failed", "reason": "Evicted", "message": "low on disk"}, "was evicted from its node: low on disk"),
        ({"phase": "Failed", "reason": "UnexpectedAdmissionError", "message": "no GPU"}, "p-0-x failed: no GPU"),
    ],
)
def test_what_is_wrong_with_a_pod_is_said(status: dict[str, Any], words: str) -> None:
    problem = explain.pod_problem(_pod(status))
    assert problem is not None
    assert words in problem


def test_a_healthy_or_leaving_pod_has_no_problem() -> None:
    state = {"running": {"startedAt": "now"}}
    assert (
        explain.pod_problem(_pod({"phase": "Running", "containerStatuses": [{"name": "predict", "state": state}]}))
        is None
    )
    assert explain.pod_problem(_pod(_ended(0, "Completed"))) is None
    leaving = _pod(_ended(143))
    leaving["metadata"]["deletionTimestamp"] = "now"
    assert explain.pod_problem(leaving) is None


def test_a_pod_that_hangs_is_explained_by_its_last_warning() -> None:
    events = [
        {"type": "Warning", "message": "old"},
        {"type": "Warning", "message": "can't mount"},
        {"type": "Normal", "message": "pulled"},
    ]
    assert explain.pod_problem(_pod({"phase": "Pending"}), events) == "p-0-x does not start: can't mount"
    assert explain.pod_problem(_pod({"phase": "Pending"})) is None


def test_the_verdict_of_a_job_comes_before_what_was_retried() -> None:
    first, verdict, last = (_pod(_ended(code)) for code in (137, 3, 143))
    whole = _pod(_ended(0, "Completed"))
    assert explain.decisive([first, verdict, last, whole]) is verdict
    assert explain.decisive([first, last, whole]) is last
    assert explain.decisive([whole]) is None
    assert [explain.exit_code(pod) for pod in (first, verdict, whole, _pod({}))] == [137, 3, 0, 0]


def test_a_rollout_that_cannot_end_by_itself_says_why() -> None:
    def problem(generation: int, **condition: str) -> str | None:
        status = {"observedGeneration": 2, "conditions": [{"message": "because", **condition}]}
        return explain.rollout_problem({"metadata": {"generation": generation}, "status": status})

    assert problem(2, type="ReplicaFailure", status="True") == "its pods are refused: because"
    assert problem(2, type="Progressing", status="False") == "because"
    assert problem(2, type="Progressing", status="True") is None
    assert problem(3, type="Progressing", status="False") is None  # That was about the change before this one.


def test_a_rollout_is_done_when_only_new_pods_are_left() -> None:
    def state(generation: int, **status: int) -> bool:
        spec = {"replicas": 2}
        seen = {"observedGeneration": 2, **status}
        return explain.rollout_state({"metadata": {"generation": generation}, "spec": spec, "status": seen})[0]

    assert state(2, updatedReplicas=2, availableReplicas=2, replicas=2)
    assert not state(2, updatedReplicas=2, availableReplicas=2, replicas=3)
    assert not state(2, updatedReplicas=1, availableReplicas=2, replicas=2)
    assert not state(3, updatedReplicas=2, availableReplicas=2, replicas=2)


def test_models_config_is_changed_in_place() -> None:
    ours = (K8S / "base/models.config").read_text()
    one_version = overlay.served(ours, version=7, model_name="cats")
    assert "model_version_policy { specific { versions: 7 } }" in one_version
    assert 'name: "cats"' in one_version
    assert 'base_path: "/models/cats"' in one_version
    back = overlay.served(one_version, version=None, model_name="dogs")
    assert "latest { num_versions: 2 }" in back
    assert "specific" not in back
    with pytest.raises(DeployError, match="exactly one model_version_policy"):
        overlay.served(ours + ours, version=7, model_name=None)
    with pytest.raises(DeployError, match="exactly one model"):
        overlay.served(ours.replace("model_platform", 'name: "b"'), version=7, model_name="c")


def test_a_pod_that_waits_for_a_container_says_for_which() -> None:
    running: list[dict[str, Any]] = [{"name": name, "state": {"running": {}}} for name in ("sync", "wait-for-model")]
    pod = _pod({"phase": "Pending", "initContainerStatuses": running})
    pod["spec"]["initContainers"] = [{"name": "sync", "restartPolicy": "Always"}, {"name": "wait-for-model"}]
    told = "p-0-x has not begun: wait-for-model comes first, see `kubectl logs p-0-x -c wait-for-model`"
    assert explain.pod_problem(pod) == told


class _SilentAtFirst:
    """A cluster whose API server is replaced just now; then it has a Job that is done."""

    namespace = "flow-images"

    def __init__(self, silent: int) -> None:
        self.silent = silent

    def get(self, *_: str) -> dict[str, Any]:
        self.silent -= 1
        if self.silent >= 0:
            raise Unreachable("can't read Job p: no answer from here")
        return {"spec": {}, "status": {"succeeded": 1, "conditions": [{"type": "Complete", "status": "True"}]}}

    def all(self, *_: str, **__: str) -> list[dict[str, Any]]:
        return []


def test_a_cluster_that_is_silent_for_a_while_is_asked_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "POLL_S", 0)
    said: list[str] = []
    follow.Follower(cast(Cluster, _SilentAtFirst(3)), said.append, timeout_s=60).job("p")
    assert said == ["can't read Job p: no answer from here; asking on", "job/p complete: 1/1 done"]
    monkeypatch.setattr(follow, "SILENCE_S", 0)
    with pytest.raises(Unreachable):
        follow.Follower(cast(Cluster, _SilentAtFirst(3)), said.append, timeout_s=60).job("p")


@needs_kubectl
def test_without_a_cluster_the_manifests_are_printed() -> None:
    result = deploy("predict", "--dry-run=client", "--shards=5", "-k", "bucket-gs", "-n", "team-a")
    assert result.exit_code == 0, result.output
    assert "--shard=$(JOB_COMPLETION_INDEX)/5" in result.output
    assert "namespace: team-a" in result.output
    assert "kind: Deployment" not in result.output


@needs_kubectl
def test_the_namespace_is_the_manifests_own_unless_one_is_given(tmp_path: Path) -> None:
    compose(tmp_path, "overlays/local", [])
    with (tmp_path / "kustomization.yaml").open("a") as file:
        file.write("namespace: team-b\n")
    for more, namespace in (([], "team-b"), (["-n", "team-c"], "team-c")):
        printed = deploy("serve", "--dry-run=client", "-k", str(tmp_path), *more).stdout
        objects = list(yaml.safe_load_all(printed))
        assert {o["metadata"].get("namespace", namespace) for o in objects} == {namespace}
        assert one(objects, "Namespace", namespace)


@needs_kubectl
def test_a_model_of_another_name_is_asked_for_everywhere() -> None:
    result = deploy("serve", "--dry-run=client", "--model-name=cats", "-k", "bucket-s3")
    assert result.exit_code == 0, result.output
    assert result.output.count("/v1/models/cats") == 3
    assert "MODEL_SOURCE: s3://example-bucket/models/cats" in result.output
    assert "dogs" not in result.output


@needs_kubectl
def test_rolled_back_on_s3_the_copy_of_that_version_stays() -> None:
    back = deploy("rollback", "--dry-run=client", "--version=7", "-k", "bucket-s3")
    assert "PINNED_VERSION: '7'" in back.stdout
    assert "MODEL_SOURCE: s3://example-bucket/models/dogs\n" in back.stdout
    again = deploy("serve", "--dry-run=client", "-k", "bucket-s3")
    assert "PINNED_VERSION: ''" in again.stdout


@needs_kubectl
def test_wrong_usage_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    missing = deploy("serve", "--dry-run=client", "-k", str(tmp_path))
    assert missing.exit_code == 2
    assert f"no kustomization.yaml in {tmp_path}: give a folder that has one, or one of bucket-gs" in missing.output
    (tmp_path / "kustomization.yaml").write_text("resources: [nowhere.yaml]\n")
    broken = deploy("serve", "--dry-run=client", "-k", str(tmp_path))
    assert broken.exit_code == 2
    assert "don't build" in broken.output
    assert len(broken.output.strip().splitlines()) == 1


@needs_kubectl
@pytest.mark.parametrize(
    ("command", "kind", "name", "gone", "why"),
    [
        ("serve", "ConfigMap", "serving-config", "/data", "has no data.models.config"),
        ("predict", "Job", "predict", f"{POD}/containers/0/args", "Job predict has no spec.template.spec.containers.0"),
        ("serve", "Deployment", "serving", f"{POD}/containers/0/livenessProbe", "don't build"),
    ],
)
def test_manifests_that_lack_what_is_changed(
    command: str, kind: str, name: str, gone: str, why: str, tmp_path: Path
) -> None:
    compose(tmp_path, "overlays/local", [])
    with (tmp_path / "kustomization.yaml").open("a") as file:
        remove = [{"op": "remove", "path": gone}]
        yaml.safe_dump({"patches": [{"target": {"kind": kind, "name": name}, "patch": yaml.safe_dump(remove)}]}, file)
    more = {"serve": "--model-name=cats", "predict": "--shards=2"}[command]
    result = deploy(command, "--dry-run=client", more, "-k", str(tmp_path))
    assert (result.exit_code, why in result.stderr) == (2, True), result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("script", "exit_code", "why"),
    [
        ("exit 9", 2, "ended with 9"),
        ("printf '\\377\\376'", 2, "no list of objects"),
        ("echo '- a'", 2, "no list of objects"),
        ("printf 'a:\\n\\tb'", 2, "no list of objects"),
        ("echo 'kind: A'", 2, "no list of objects"),
        (None, 1, "can't be run"),
    ],
)
def test_a_kubectl_that_builds_nothing_sensible(
    script: str | None, exit_code: int, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kubectl").write_text("#!/nowhere/sh\n" if script is None else f"#!/bin/sh\n{script}\n")
    (tmp_path / "kubectl").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    result = deploy("serve", "--dry-run=client")
    assert (result.exit_code, why in result.stderr) == (exit_code, True), result.stderr
    assert len(result.stderr.splitlines()) == 1


@needs_kubectl
def test_a_value_that_is_no_text_is_refused() -> None:
    for words in (["--labels=a\udcff"], ["--", "--seed=a\udcff"]):
        result = deploy("train", "--dry-run=client", *words)
        assert result.exit_code == 2
        assert result.stderr.endswith("a\\udcff is not UTF-8\n")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["rollback", "--version=0"], "0 is not in the range x>=1"),
        (["rollback"], "Missing option '--version'"),
        (["train", "--name=a/b"], "it becomes part of URLs"),
        (["serve", '--model-name=a" base_path: "/etc'], "it becomes part of URLs"),
        (["predict", "gs://bucket/photos"], "'gs://bucket/photos' is not expected here"),
        (["predict", "--job-name=Photos_2"], "expected up to 52 lower case letters"),
        (["predict", f"--job-name={'a' * 53}"], "expected up to 52 lower case letters"),
        (["predict", "--shards=0"], "0 is not in the range x>=1"),
        (["predict", "--top-k=3"], "No such option"),
        (["serve", "--timeout=-1"], "-1.0 is not in the range x>=0"),
        (["launch"], "No such command 'launch'"),
        (["serve", "--timeout=nan"], "nan is no finite number"),
        (["serve", "--timeout=inf"], "inf is no finite number"),
        (["rollback", f"--version={2**63}"], "no server can hold such a version"),
        (["train", f"--version={2**63}"], "no server can hold such a version"),
        (["train", "--epochs=100001"], "is more than 100000"),
        (["predict", "--shards=100001"], "a Job of Kubernetes can't have more pods"),
        (["predict", "--batch-size=4097"], "a request can't have more pictures"),
        (["serve", "--replicas=2147483648"], "is more than 10000"),
        (["status", "-n", "a/b"], "expected up to 63 lower case letters"),
        (["suspend", "../pods/p"], "expected up to 52 lower case letters"),
    ],
)
def test_wrong_flags_are_exit_code_2(words: list[str], why: str) -> None:
    wrong = deploy(*words)
    assert (wrong.exit_code, wrong.stdout) == (2, "")
    assert why in wrong.stderr


@needs_kubectl
def test_for_a_server_elsewhere_nothing_waits_for_ours() -> None:
    ours, elsewhere = (
        yaml.safe_load_all(deploy("predict", "--dry-run=client", *more).stdout) for more in ([], ["--server=a:8500"])
    )
    (waits,) = one(list(ours), "Job", "predict")["spec"]["template"]["spec"]["initContainers"]
    assert waits["name"] == "wait-for-model"
    assert not one(list(elsewhere), "Job", "predict")["spec"]["template"]["spec"]["initContainers"]


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
    assert "no way to a cluster" in wrong.stderr
    assert why in wrong.stderr
    assert len(wrong.stderr.splitlines()) == 1
    missing = deploy("status", f"--kubeconfig={tmp_path}/none")
    assert (missing.exit_code, "no way to a cluster" in missing.stderr) == (1, True)


class _Answers:
    """A server in place of Kubernetes' own, or of a bucket, that gives every request the same answer."""

    def __init__(self, folder: Path) -> None:
        self.status, self.body, self.cut, self.asked = 200, b"", False, threading.Event()
        self.waits: threading.Event | None = None
        answers = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self) -> None:
                answers.asked.set()
                if answers.waits:
                    answers.waits.wait()
                if answers.cut:
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                self.send_response(answers.status)
                self.send_header("Content-Length", str(len(answers.body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(answers.body)

            do_GET = do_POST = do_PATCH = do_PUT = do_HEAD = answer

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.kubeconfig = f"--kubeconfig={kubeconfig(folder, self.url)}"


def kubeconfig(folder: Path, server: str) -> Path:
    written = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "k", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
    }
    (folder / "config").write_text(yaml.safe_dump(written))
    return folder / "config"


@pytest.fixture
def answers(tmp_path: Path) -> Iterator[_Answers]:
    made = _Answers(tmp_path)
    with made.server:
        threading.Thread(target=made.server.serve_forever, daemon=True).start()
        yield made
        if made.waits:
            made.waits.set()
        made.server.shutdown()


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_an_api_server_that_is_busy_or_broken_may_be_asked_again(status: int, answers: _Answers) -> None:
    answers.status, answers.body = status, b"<html>\x1b[31mbusy\x1b[0m\x07</html>"
    result = deploy("status", answers.kubeconfig)
    assert result.exit_code == 75
    assert f"answers {status}: <html>busy\\x07</html>; nothing was changed in the cluster" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_connection_that_breaks_or_a_name_that_is_not_found_may_pass(answers: _Answers, tmp_path: Path) -> None:
    answers.cut = True
    for server in (answers.url, "https://127.0.0.1:9", "https://name.invalid"):
        result = deploy("status", f"--kubeconfig={kubeconfig(tmp_path, server)}")
        assert result.exit_code == 75, result.stderr
        assert f"no answer from the current context ({server})" in result.stderr
        assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("status", "body"), [(200, b"<html>"), (200, b"{}"), (200, b"[1]"), (200, b"\xff"), (404, b"?"), (302, b"")]
)
def test_a_server_that_is_no_kubernetes_is_called_so(status: int, body: bytes, answers: _Answers) -> None:
    answers.status, answers.body = status, body
    result = deploy("status", answers.kubeconfig)
    assert result.exit_code == 1
    assert "does not answer as Kubernetes does" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("server", ["https://127.0.0.1", "localhost:6443", "http://[::1"])
def test_an_address_that_cannot_be_right_is_refused(server: str, answers: _Answers, tmp_path: Path) -> None:
    port = answers.url.rpartition(":")[2]  # It speaks no TLS.
    config = kubeconfig(tmp_path, f"{server}:{port}" if server.startswith("https") else server)
    result = deploy("status", f"--kubeconfig={config}")
    assert result.exit_code == 1, result.stderr
    assert "can't be talked to" in result.stderr or "no way to a cluster" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@needs_kubectl
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("words", [["status"], ["serve"], ["cleanup", "--all"], ["suspend", "p"]])
def test_interrupted_before_it_changes_anything_it_says_so(words: list[str], number: int, answers: _Answers) -> None:
    answers.waits = threading.Event()
    command = [sys.executable, "-m", "flow_images", "deploy", words[0], answers.kubeconfig, *words[1:]]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=K8S.parent) as process:
        assert answers.asked.wait(60)
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert said == "flow-images deploy: interrupted: nothing was changed in the cluster\n"


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


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("[red]a[/] :dog: ünï 🐕", "[red]a[/] :dog: ünï 🐕"),
        ("\x1b[1m1/10\x1b[0m ok", "1/10 ok"),
        ("\x1b]0;title\x07a\x1b]8;;http://x\x1b\\b", "ab"),
        ("a\x1bcb\x07\x9b2J\x7f", "a\\x1bcb\\x07\\x9b2J\\x7f"),
        ("a\r\nb\tc", "a  b c"),
        ("abc\u202edcb\u2028x", "abc\\u202edcb\\u2028x"),
    ],
)
def test_text_of_others_commands_nothing(text: str, shown: str) -> None:
    assert lines.plain(text) == shown
    assert str(DeployError(text)) == shown


def test_whose_an_object_is() -> None:
    def made(by: str, **labels: str) -> dict[str, Any]:
        status = {"manager": "kubectl", "subresource": "status"}
        metadata = {"labels": {f"app.kubernetes.io/{k}": v for k, v in labels.items()}}
        return {"metadata": {**metadata, "managedFields": [{"manager": by}, status]}}

    ours = {"part-of": "flow-images"}
    assert ownership.is_ours(made("flow-images", **ours))
    assert ownership.is_ours(made("kubectl-client-side-apply", **ours))
    assert not ownership.is_ours(made("helm", **ours))
    assert not ownership.is_ours(made("flow-images"))
    assert not ownership.is_ours(made("flow-images", **{"part-of": "shop"}))
    assert not ownership.is_ours({"metadata": {"labels": None}})
    applied = {"{}": False, "?": False, json.dumps(made("")): False, json.dumps(made("", **ours)): True}
    for text, still in applied.items():
        labelled = made("kubectl-client-side-apply", **ours)
        labelled["metadata"]["annotations"] = {"kubectl.kubernetes.io/last-applied-configuration": text}
        assert ownership.is_ours(labelled) == still, text
    assert ownership.whose(made("helm", name="x")) == "labels app.kubernetes.io/name=x, managed by helm"


@pytest.fixture
def status_server() -> Iterator[tuple[str, dict[str, int]]]:
    """A server that answers each path with the status that the test puts there."""
    answers: dict[str, int] = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(answers.get(self.path, 404))
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", answers
        server.shutdown()


def test_loaded_means_that_a_version_can_be_asked(status_server: tuple[str, dict[str, int]]) -> None:
    url, answers = status_server
    answers["/v1/models/dogs"] = 200  # The status page answers for a model that failed to load, too.
    assert not wait_for_model.loaded(url, "dogs")
    answers["/v1/models/dogs/metadata"] = 200
    assert wait_for_model.loaded(url, "dogs")
    assert not wait_for_model.loaded("http://127.0.0.1:9", "dogs")


def test_waiting_in_vain_is_resumable(status_server: tuple[str, dict[str, int]]) -> None:
    url, answers = status_server
    arguments = [f"--url={url}", "--model-name=dogs", "--timeout=0.1", "--every=0.05"]
    assert CliRunner().invoke(wait_for_model.main, arguments).exit_code == 75
    answers["/v1/models/dogs/metadata"] = 200
    assert CliRunner().invoke(wait_for_model.main, arguments).exit_code == 0


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A real S3 client against an S3 in memory, with one bucket."""
    moto = pytest.importorskip("moto")
    boto3 = pytest.importorskip("boto3")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with moto.mock_aws():
        client = boto3.client("s3")
        client.create_bucket(Bucket="bucket")
        yield client


def _publish(store: Any, version: str, *files: str) -> None:
    for file in files or ("variables/variables.index", "saved_model.pb"):
        store.put_object(Bucket="bucket", Key=f"models/dogs/{version}/{file}", Body=f"{version} {file}".encode())


def test_the_newest_whole_versions_are_copied(store: Any, tmp_path: Path) -> None:
    for version in ("1", "2", "10"):
        _publish(store, version)
    _publish(store, "11", "variables/variables.index")  # Still being published.
    _publish(store, "notes")
    _publish(store, "1/assets", "breeds.txt")
    assert sync_models.sync(Stores()("s3://bucket"), "s3://bucket/models/dogs", tmp_path, keep=2) == [10, 2]
    folder = tmp_path / "dogs"
    assert sorted(p.name for p in folder.iterdir()) == ["10", "2"]
    assert (folder / "10/variables/variables.index").read_text() == "10 variables/variables.index"
    assert sync_models.sync(Stores()("s3://bucket"), "s3://bucket/models/dogs", tmp_path, keep=2) == []
    _publish(store, "11", "saved_model.pb")
    assert sync_models.sync(Stores()("s3://bucket"), "s3://bucket/models/dogs", tmp_path, keep=2) == [11]
    assert sorted(p.name for p in folder.iterdir()) == ["10", "11"]


def test_a_pinned_version_stays_however_many_are_newer(store: Any, tmp_path: Path) -> None:
    for version in ("1", "2", "3"):
        _publish(store, version)
    assert sync_models.sync(Stores()("s3://bucket"), "s3://bucket/models/dogs", tmp_path, keep=2, pinned=1) == [1, 3, 2]
    _publish(store, "4")
    assert sync_models.sync(Stores()("s3://bucket"), "s3://bucket/models/dogs", tmp_path, keep=2, pinned=1) == [4]
    assert sorted(p.name for p in (tmp_path / "dogs").iterdir()) == ["1", "3", "4"]
    assert sync_models.sync(Stores()("s3://bucket"), "s3://bucket/models/dogs", tmp_path, keep=2, pinned=9) == []
    assert sorted(p.name for p in (tmp_path / "dogs").iterdir()) == ["3", "4"]


def test_an_empty_source_takes_no_model_away(store: Any, tmp_path: Path) -> None:
    _publish(store, "1")
    sync_models.sync(Stores()("s3://bucket"), "s3://bucket/models/dogs", tmp_path, keep=2)
    assert sync_models.sync(Stores()("s3://bucket"), "s3://bucket/models/cats", tmp_path, keep=2) == []
    store.delete_object(Bucket="bucket", Key="models/dogs/1/saved_model.pb")
    assert sync_models.sync(Stores()("s3://bucket"), "s3://bucket/models/dogs", tmp_path, keep=2) == []
    assert (tmp_path / "dogs/1/saved_model.pb").exists()


def test_an_interrupted_copy_leaves_nothing_behind(store: Any, tmp_path: Path) -> None:
    _publish(store, "1")
    (tmp_path / "dogs" / ASIDE / "variables").mkdir(parents=True)
    (tmp_path / "dogs" / ASIDE / "variables/stale").touch()
    sync_models.sync(Stores()("s3://bucket"), "s3://bucket/models/dogs", tmp_path, keep=2)
    assert [path.name for path in (tmp_path / "dogs").iterdir()] == ["1"]
    assert not (tmp_path / "dogs/1/variables/stale").exists()


def test_a_key_cannot_lead_out_of_the_folder(store: Any, tmp_path: Path) -> None:
    _publish(store, "1", "saved_model.pb", "../../../evil")
    with pytest.raises(FlowImagesError, match="outside"):
        sync_models.sync(Stores()("s3://bucket"), "s3://bucket/models/dogs", tmp_path / "in", keep=1)
    assert not (tmp_path / "evil").exists()


def test_sync_once_by_the_command(store: Any, tmp_path: Path) -> None:
    _publish(store, "5")
    arguments = ["--source=s3://bucket/models/dogs", f"--target={tmp_path}"]
    done = CliRunner().invoke(sync_models.main, arguments)
    assert (done.exit_code, done.output) == (0, "copied version 5\n")
    wrong = CliRunner().invoke(sync_models.main, ["--source=s3://bucket", f"--target={tmp_path}"])
    assert wrong.exit_code == 2
    gone = CliRunner().invoke(sync_models.main, ["--source=s3://nobody/models/dogs", f"--target={tmp_path}"])
    assert gone.exit_code == 2
    assert "s3://nobody/models/dogs: there is no bucket 'nobody'" in gone.output
    _publish(store, "6", "saved_model.pb", "../../../evil")
    hostile = CliRunner().invoke(sync_models.main, arguments)
    assert (hostile.exit_code, "outside" in hostile.output) == (1, True)


def test_training_runs_on_copies_of_a_bucket(s3_folder: str, tmp_path: Path) -> None:
    storage = Stores()(s3_folder)
    storage.create(f"{s3_folder}/pictures/labels.csv", b"id,breed")
    storage.create(f"{s3_folder}/pictures/train/a.jpg", b"jpg")
    program = [sys.executable, "-m", "k8s.pods.train_with_bucket"]
    fetch = f"--fetch={s3_folder}/pictures={tmp_path}/pictures"
    for command, code in (("test $(cat pictures/train/a.jpg) = jpg", 0), ("exit 4", 4), ("kill -TERM $$", -15)):
        done = subprocess.run(
            [*program, fetch, "--", "sh", "-c", f"cd {tmp_path} && {command}"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stderr
        assert done.stdout == f"copied 2 files from {s3_folder}/pictures\n"
    for source, why in (("s3://nobody/pictures", "no bucket"), (f"{s3_folder}/nothing", "no file below it")):
        gone = CliRunner().invoke(train_with_bucket.main, [f"--fetch={source}={tmp_path}/x", "--", "true"])
        assert (gone.exit_code, why in gone.output) == (2, True), gone.output


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
    status: int, code: str, exit_code: int, answers: _Answers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _ask(answers, monkeypatch)
    answers.status, answers.body = status, f"<Error><Code>{code}</Code><Message>m</Message></Error>".encode()
    _both_end_with(exit_code, "no bucket" if code == "NoSuchBucket" else code, tmp_path)


def test_a_bucket_that_cannot_be_reached_may_come_back(
    answers: _Answers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
    # A pod has no credentials right after its start, when workload identity isn't ready.
    monkeypatch.setenv("AWS_ENDPOINT_URL", answers.url)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    _both_end_with(75, "Unable to locate credentials", tmp_path)


def _ask(answers: _Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("boto3")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", answers.url)


def _both_end_with(exit_code: int, words: str, folder: Path, url: str = "s3://b/pictures") -> None:
    fetch = [f"--fetch={url}={folder}/x", "--patience=0", "--", "true"]
    fetched = CliRunner().invoke(train_with_bucket.main, fetch)
    synced = CliRunner().invoke(sync_models.main, [f"--source={url}", f"--target={folder}/y", "--patience=0"])
    for done in (fetched, synced):
        assert (done.exit_code, words in done.output) == (exit_code, True), done.output
        assert len(done.output.splitlines()) == 1


@pytest.mark.parametrize(("status", "exit_code"), [(503, 75), (429, 75), (401, 75), (403, 2), (404, 2)])
def test_a_bucket_of_google_is_final_or_may_pass(
    status: int, exit_code: int, answers: _Answers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("google.cloud.storage")
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", answers.url)
    answers.status, answers.body = status, b"{}"
    _both_end_with(exit_code, "gs://b/pictures: ", tmp_path, "gs://b/pictures")


@pytest.mark.parametrize("url", ["serving:8501", "http://", "http://a:b", "gs://a"])
def test_an_address_that_is_none_is_not_waited_for(url: str) -> None:
    assert CliRunner().invoke(wait_for_model.main, [f"--url={url}", "--model-name=dogs"]).exit_code == 2
