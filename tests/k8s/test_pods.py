"""Tier (c): training, serving and prediction as real pods of the project's own images, under a real kubelet.

    tests/k8s/cluster/sandbox.sh .venv/bin/pytest -m k8s tests/k8s/test_pods.py

The tests of this file follow each other on one cluster, as its users' days do: each starts from what the last one left.
"""

import csv
import http.server
import json
import os
import random
import socket
import struct
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from serving.model_store.versions import MODEL_FILE
from tests.k8s.builds import CACHE, K8S, compose
from tests.k8s.cluster.node import PUBLIC_ADDRESS, Node, missing
from tests.k8s.command import Ran, deploy
from tests.k8s.inputs import draw, draw_images, make_hub_module
from tests.k8s.local import CLASSES, NAMESPACE, VOLUMES, add_volumes, write_overlay

pytestmark = [
    pytest.mark.k8s,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(missing() is not None, reason=missing() or ""),
]

NEW = 60
MANY = 3000
LARGE = (2400, 1800)


class Site:
    """The cluster, its volumes as folders, and the commands of the people who use it."""

    def __init__(self, node: Node, folder: Path) -> None:
        self.node = node
        self.volumes = {name: folder / "volumes" / name for name in VOLUMES}
        self.own = folder / "own"
        self.overlay = folder / "overlay"

    def kubectl(self, *arguments: str) -> str:
        return self.node.kubectl("-n", NAMESPACE, *arguments)

    def get(self, *what: str) -> Any:
        found = json.loads(self.kubectl("get", *what, "-o", "json"))
        return found["items"] if found["kind"] == "List" else found

    def deploy(self, command: str, *arguments: str) -> Ran:
        target = [f"--kubeconfig={self.node.admin}"]
        return deploy(command, *target, *arguments)

    def submit(self, command: str, *arguments: str) -> Ran:
        return self.deploy(command, f"--manifests={self.overlay}", "--timeout=600", *arguments)

    def rows(self, run: str) -> list[dict[str, str]]:
        with (self.volumes["output"] / run / "predictions.csv").open(newline="") as file:
            return list(csv.DictReader(file))

    def report(self, run: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.volumes["output"] / run / "run.json").read_text())
        return found

    def until(self, what: str, true: Callable[[], object], seconds: float = 240) -> None:
        self.node.wait_until(what, true, seconds)

    def finish(self, job: str, seconds: float = 600) -> None:
        """Waits until a Job is complete; fails at once, with all that is known, when it can't be any more."""

        def ended() -> bool:
            state = {c["type"] for c in self.get("job", job)["status"].get("conditions", []) if c["status"] == "True"}
            if "Failed" in state:
                pytest.fail(f"job {job} failed\n{self.diagnosis()}")
            return "Complete" in state

        try:
            self.until(f"job {job} complete", ended, seconds)
        except TimeoutError as error:
            pytest.fail(f"{error}\n{self.diagnosis()}")

    def diagnosis(self) -> str:
        """What a person would look at when something went wrong."""
        parts = [self.kubectl("get", "pods,jobs,deployments", "-o", "wide")]
        for pod in self.get("pods"):
            name = pod["metadata"]["name"]
            parts.append(
                f"--- {name}\n{self.kubectl('logs', name, '--all-containers', '--tail=15', '--ignore-errors')}"
            )
        parts.append(self.kubectl("get", "events", "--sort-by=.lastTimestamp")[-3000:])
        return "\n".join(parts)


@pytest.fixture(scope="module")
def site(node: Node) -> Site:
    made = Site(node, node.folder / "site")
    add_volumes(node, made.volumes)
    draw_images(made.own / "images", CLASSES, each=20)
    make_hub_module(made.own / "images/hub")
    write_overlay(made.overlay)
    return made


def test_one_apply_trains_serves_and_predicts(site: Site) -> None:
    # As docs/kubernetes.md has it.
    site.node.kubectl("apply", "-f", str(K8S / "components/own-namespace/namespace.yaml"))
    site.node.kubectl("apply", "-k", str(site.overlay), "-l", "app.kubernetes.io/component=storage")
    site.node.kubectl("apply", "-f", str(K8S / "files.yaml"))
    site.kubectl("wait", "--for=condition=Ready", "pod/files", "--timeout=120s")
    site.kubectl("cp", str(site.own / "images"), "files:/")
    started = time.monotonic()
    site.node.kubectl("apply", "-k", str(site.overlay))
    waits = "wait-for-model comes first"
    site.until("it is said what the workers wait for", lambda: waits in site.deploy("status").output)
    site.finish("train")
    site.finish("predict")
    print(f"apply to CSV: {time.monotonic() - started:.0f} s")
    assert (site.volumes["models"] / "dogs/1/saved_model.pb").exists()
    site.kubectl("cp", "files:/output/predictions", str(site.own / "predictions"))
    site.kubectl("delete", "pod", "files")
    with (site.own / "predictions/predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [Path(row["path"]).name for row in rows] == [f"new-{i:04d}.jpg" for i in range(NEW)]
    right = [row["label"] == list(CLASSES)[i % len(CLASSES)] for i, row in enumerate(rows)]
    assert sum(right) > 0.8 * NEW
    report = site.report("predictions")
    assert (report["listed"], report["predicted"], report["failed"]) == (NEW, NEW, 0)
    assert report["model"]["version"] == 1
    for pod in site.get("pods"):
        for status in pod["status"]["containerStatuses"]:
            assert status["restartCount"] == 0, pod["metadata"]["name"]


@pytest.fixture(scope="module")
def many(site: Site) -> str:
    """So many and such large images that something can happen while they are predicted."""
    folder = site.volumes["images"] / "many"
    folder.mkdir()
    for i, colour in enumerate(CLASSES.values()):
        draw(colour, random.Random(i), LARGE).save(folder / f"{i:05d}.jpg")
    for i in range(len(CLASSES), MANY):
        os.link(folder / f"{i % len(CLASSES):05d}.jpg", folder / f"{i:05d}.jpg")
    return "/images/many"


def _has_begun(site: Site, run: str) -> bool:
    """Some parts are written, and the rest is still to come."""
    folder = site.volumes["output"] / run
    return any(folder.glob("_state/parts/*/*.jsonl")) and not (folder / "predictions.csv").exists()


def _complete(site: Site, run: str, *, version: int, images: int = MANY) -> None:
    report = site.report(run)
    assert (report["listed"], report["predicted"], report["failed"], report["rejected"]) == (images, images, 0, 0)
    assert report["model"]["version"] == version
    assert [Path(row["path"]).name for row in site.rows(run)] == [f"{i:05d}.jpg" for i in range(images)]


def test_a_rolling_restart_costs_no_row(site: Site, many: str) -> None:
    def servers() -> set[str]:
        return {p["metadata"]["uid"] for p in site.get("pods", "-l", "app.kubernetes.io/name=serving")}

    def predict(run: str) -> str:
        begun = site.submit("predict", f"--job-name={run}", f"--input={many}", f"--output=/output/{run}", "--no-wait")
        assert begun.exit_code == 0, begun.output
        return run

    before = servers()
    runs = [predict("roll-0")]
    site.until("prediction has begun", lambda: _has_begun(site, runs[0]))
    site.kubectl("rollout", "restart", "deployment/serving")

    def replaced() -> bool:
        # However fast the machine is: as long as an old server is there, somebody asks.
        if (site.volumes["output"] / runs[-1] / "predictions.csv").exists():
            runs.append(predict(f"roll-{len(runs)}"))
        return bool(after := servers()) and after.isdisjoint(before)

    site.until("all servers are new", replaced, 300)
    for run in runs:
        site.finish(run)
        assert site.get("job", run)["status"].get("failed", 0) == 0
        _complete(site, run, version=1)


def test_a_killed_index_is_resumed(site: Site, many: str) -> None:
    submitted = site.submit("predict", "--job-name=kill", f"--input={many}", "--output=/output/kill", "--no-wait")
    assert submitted.exit_code == 0
    site.until("prediction has begun", lambda: _has_begun(site, "kill"))
    victim = next(
        p["metadata"]["name"]
        for p in site.get("pods", "-l", "batch.kubernetes.io/job-name=kill")
        if p["status"]["phase"] == "Running"
    )
    site.kubectl("exec", victim, "-c", "predict", "--", "sh", "-c", "kill -KILL -1 || true")
    site.until("its death is counted", lambda: site.get("job", "kill")["status"].get("failed", 0) >= 1)
    assert "killed from outside; is retried" in site.deploy("status").output
    site.finish("kill")
    _complete(site, "kill", version=1)


def test_a_version_published_while_a_job_runs_does_not_cut_it_off(site: Site, many: str) -> None:
    assert (
        site.submit("predict", "--job-name=old", f"--input={many}", "--output=/output/old", "--no-wait").exit_code == 0
    )
    site.until("prediction has begun", lambda: _has_begun(site, "old"))
    trained = site.submit("train", "--version=2")
    assert trained.exit_code == 0, f"{trained.output}\n{site.diagnosis()}"
    site.finish("old")
    _complete(site, "old", version=1)
    new = site.submit("predict", "--output=/output/new", "--", "--model-version=2")
    assert new.exit_code == 0, f"{new.output}\n{site.diagnosis()}"
    assert site.report("new")["model"]["version"] == 2


def test_rollback_goes_back(site: Site) -> None:
    back = site.submit("rollback", "--version=1")
    assert back.exit_code == 0, f"{back.output}\n{site.diagnosis()}"
    again = site.submit("predict", "--output=/output/back")
    assert again.exit_code == 0, f"{again.output}\n{site.diagnosis()}"
    assert site.report("back")["model"]["version"] == 1


def test_a_version_that_is_not_there_replaces_no_server(site: Site) -> None:
    before = {p["metadata"]["name"] for p in site.get("pods", "-l", "app.kubernetes.io/name=serving")}
    result = site.deploy("rollback", f"--manifests={site.overlay}", "--version=99", "--timeout=30")
    assert result.exit_code == 1
    assert "a pod becomes ready once it has loaded a model" in result.output
    assert "runs, and has no model that can be asked yet" in site.deploy("status").output
    ready = {
        p["metadata"]["name"]
        for p in site.get("pods", "-l", "app.kubernetes.io/name=serving")
        if any(c["type"] == "Ready" and c["status"] == "True" for c in p["status"]["conditions"])
    }
    assert ready <= before
    assert ready
    assert site.submit("serve").exit_code == 0


def test_running_out_of_memory_is_called_so(site: Site, tmp_path: Path) -> None:
    # Through another overlay on top of ours, as a user would set a limit.
    folder = tmp_path / "small"
    folder.mkdir()
    limit = [{"op": "replace", "path": "/spec/template/spec/containers/0/resources", "value": _resources("64Mi")}]
    never = [{"op": "replace", "path": "/spec/backoffLimit", "value": 0}]
    kustomization = {
        "resources": [os.path.relpath(site.overlay, folder)],
        "patches": [{"target": {"kind": "Job", "name": "train"}, "patch": json.dumps(limit + never)}],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    result = site.deploy("train", f"--manifests={folder}", "--version=3", "--timeout=120")
    assert result.exit_code == 1
    assert "train ran out of memory and was killed: raise its limit of 64Mi" in result.output, result.output
    assert not (site.volumes["models"] / "dogs/3").exists()


def _resources(memory: str) -> dict[str, Any]:
    return {"requests": {"cpu": "100m", "memory": memory}, "limits": {"memory": memory}}


@pytest.fixture
def hub(site: Site, tmp_path: Path) -> Iterator[int]:
    """A hub's port on the internet; it is overloaded, then resets a connection, and then has a module."""
    archive = tmp_path / "module.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        file.add(site.own / "images/hub", ".")
    faults = ["503", "reset"]

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            match faults.pop(0) if faults else None:
                case None:
                    self.send_response(200)
                    self.send_header("Content-Length", str(archive.stat().st_size))
                    self.end_headers()
                    self.wfile.write(archive.read_bytes())
                case "reset":
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    self.connection.close()
                case status:
                    self.send_error(int(status))

        def log_message(self, *_: object) -> None:
            pass

    # Without TLS, but on the one port that the policies leave open.
    with http.server.ThreadingHTTPServer((PUBLIC_ADDRESS, 443), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()
    assert faults == []


def test_blips_of_dns_and_of_the_hub_do_not_fail_a_training(site: Site, hub: int) -> None:
    url = f"http://hub.{NAMESPACE}.svc.cluster.local:{hub}/module.tar.gz"
    begun = site.submit("train", "--version=4", "--name=blips", f"--hub-model={url}", "--no-wait")
    assert begun.exit_code == 0, begun.output
    # Nobody knows that name yet.
    site.until("a pod has given up", lambda: site.get("job", "train-4")["status"].get("failed", 0) >= 1)
    assert "ended with exit code 75 (stopped, and is resumed by a retry)" in site.deploy("status").output
    site.node.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(_named("hub", PUBLIC_ADDRESS, hub)))
    site.finish("train-4")
    assert (site.volumes["models"] / "blips/4" / MODEL_FILE).exists()


def _named(name: str, address: str, port: int) -> list[dict[str, Any]]:
    """A name in the cluster for an address outside it."""
    metadata = {"name": name, "namespace": NAMESPACE}
    ports = [{"port": port}]
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {"clusterIP": "None", "ports": ports},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {**metadata, "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4",
            "ports": ports,
            "endpoints": [{"addresses": [address]}],
        },
    ]


def test_wrong_usage_fails_at_once(site: Site) -> None:
    result = site.submit("predict", "--job-name=wrong", "--output=/output/wrong", "--", "--no-such-option")
    assert result.exit_code == 2
    assert "ended with exit code 2 (wrong usage" in result.output
    assert len(site.get("pods", "-l", "batch.kubernetes.io/job-name=wrong")) <= 2


def _with(site: Site, folder: Path, component: str) -> str:
    """The site's overlay with one more component."""
    compose(folder, os.path.relpath(site.overlay, K8S), [component])
    return f"--manifests={folder}"


def test_a_dask_cluster_predicts_and_a_killed_worker_costs_no_row(site: Site, many: str, tmp_path: Path) -> None:
    overlay = _with(site, tmp_path / "dask", "dask")
    run = ["--job-name=dask", "--shards=2", f"--input={many}", "--output=/output/dask", "--no-wait"]
    begun = site.submit("predict", overlay, *run)
    assert begun.exit_code == 0, begun.output
    site.until("prediction has begun", lambda: _has_begun(site, "dask"))
    workers = ("pods", "-l", "app.kubernetes.io/name=dask-worker")
    victim = site.get(*workers)[0]["metadata"]["name"]
    site.kubectl("exec", victim, "--", "sh", "-c", "kill -KILL -1 || true")
    site.until("it is started again", lambda: any(_restarts(pod) for pod in site.get(*workers)))
    site.finish("dask")
    _complete(site, "dask", version=2)
    assert site.get("job", "dask")["status"].get("failed", 0) == 0
    site.kubectl("delete", "deployment", "dask-scheduler", "dask-worker")


def _restarts(pod: Any) -> int:
    return sum(status["restartCount"] for status in pod["status"].get("containerStatuses", []))


def test_the_dask_operator_makes_the_same_cluster(site: Site, many: str, tmp_path: Path) -> None:
    kopf = CACHE / "venv-kopf/bin/kopf"
    (resources,) = kopf.parents[1].glob("lib/python3*/site-packages/dask_kubernetes/operator/deployment/helm/*/crds")
    # As its chart is installed: by the server, as a schema is too long for an annotation.
    site.node.kubectl("apply", "--server-side", "-f", str(resources))
    controller = ["run", "-m", "dask_kubernetes.operator.controller", "--all-namespaces"]
    site.node.start("dask-operator", ["env", f"KUBECONFIG={site.node.admin}", str(kopf), *controller])
    overlay = _with(site, tmp_path / "operator", "dask-operator")
    run = ["--job-name=operated", "--shards=2", f"--input={many}", "--output=/output/operated"]
    done = site.submit("predict", overlay, *run)
    assert done.exit_code == 0, f"{done.output}\n{site.diagnosis()}"
    _complete(site, "operated", version=2)
    made = site.get("deployments", "-l", "dask.org/cluster-name=dask")
    assert len([d for d in made if d["metadata"]["labels"]["dask.org/component"] == "worker"]) == 2
    assert "daskcluster/dask deleted" in site.deploy("cleanup", "--all").output
    site.until("the cluster is gone", lambda: not site.get("pods", "-l", "dask.org/cluster-name=dask"))


@pytest.fixture
def store(site: Site) -> Any:
    """An S3 on the internet, with the images and the first model; as the hub, without TLS."""
    boto3 = pytest.importorskip("boto3")
    site.node.start("s3", [sys.executable, "-m", "moto.server", "-H", PUBLIC_ADDRESS, "-p", "443"])
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
    client = boto3.client("s3", endpoint_url=f"http://{PUBLIC_ADDRESS}:443", **keys)
    site.until("S3 answers", lambda: _answers(PUBLIC_ADDRESS, 443))
    client.create_bucket(Bucket="bucket")
    for image in (site.volumes["images"] / "photos").iterdir():
        client.upload_file(str(image), "bucket", f"photos/{image.name}")
    _upload(client, site.volumes["models"] / "dogs/1", "models/dogs/1")
    return client


def _upload(client: Any, version: Path, key: str) -> None:
    """Copies a model version to the bucket, with what makes it whole as the last file."""
    files = [path for path in version.rglob("*") if path.is_file()]
    for path in sorted(files, key=lambda path: path.name == MODEL_FILE):
        client.upload_file(str(path), "bucket", f"{key}/{path.relative_to(version).as_posix()}")


def _answers(address: str, port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex((address, port)) == 0


def test_a_bucket_is_served_from_and_predicted(site: Site, store: Any, tmp_path: Path) -> None:
    options = {
        "bucket": {
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": store.meta.endpoint_url,
            "AWS_SHARED_CREDENTIALS_FILE": "/etc/bucket/credentials",
        },
        "serving-sync": {"MODEL_SOURCE": "s3://bucket/models"},
        "predict-options": {"INPUT": "s3://bucket/photos", "OUTPUT": "s3://bucket/predictions"},
    }
    generators = [
        {"name": name, "namespace": NAMESPACE, "literals": [f"{key}={value}" for key, value in values.items()]}
        for name, values in options.items()
    ]
    generators[-1]["behavior"] = "merge"
    compose(tmp_path, "base", ["bucket-s3", "single-node", "embedded-server", "network-policies"], generators)
    target = [f"--manifests={tmp_path}", "--namespace=bucket-team", "--timeout=300"]
    secret = "[default]\naws_access_key_id = test\naws_secret_access_key = test\n"
    kubectl = ["-n", "bucket-team"]
    site.node.kubectl("create", "namespace", "bucket-team")
    site.node.kubectl(
        *kubectl, "create", "secret", "generic", "bucket-credentials", f"--from-literal=credentials={secret}"
    )

    def look() -> str:
        logs = [
            site.node.kubectl(*kubectl, "logs", "deployment/serving", "-c", c, "--tail=20") for c in ("sync", "serving")
        ]
        return "\n".join([site.node.kubectl(*kubectl, "get", "pods"), *logs])

    served = site.deploy("serve", *target)
    assert served.exit_code == 0, f"{served.output}\n{look()}"
    predicted = site.deploy("predict", *target)
    assert predicted.exit_code == 0, f"{predicted.output}\n{look()}"
    text = store.get_object(Bucket="bucket", Key="predictions/predictions.csv")["Body"].read().decode()
    rows = list(csv.DictReader(text.splitlines()))
    assert [row["path"] for row in rows] == [f"s3://bucket/photos/new-{i:04d}.jpg" for i in range(NEW)]

    _upload(store, site.volumes["models"] / "dogs/1", "models/dogs/2")
    # It has still to be copied, found and loaded: who asks for it waits.
    again = site.deploy("predict", *target, "--output=s3://bucket/again", "--", "--model-version=2")
    assert again.exit_code == 0, f"{again.output}\n{look()}"
    report = json.loads(store.get_object(Bucket="bucket", Key="again/run.json")["Body"].read())
    assert (report["predicted"], report["model"]["version"]) == (NEW, 2)
