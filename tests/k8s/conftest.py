"""Fixtures of tiers (b) and (c): one control plane or node a session, and in (b) one namespace a test."""

import json
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.k8s.answers import Answers
from tests.k8s.builds import K8S, KUBE, Object, compose
from tests.k8s.cluster.control_plane import KWOK, ControlPlane, wait_until
from tests.k8s.cluster.node import Node
from tests.k8s.command import Ran, deploy

Deploy = Callable[..., Ran]
Manifests = Callable[..., str]


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A real control plane on loopback with three fake nodes, two of them with a GPU."""
    if not (KUBE.exists() and KWOK.exists()):
        pytest.skip("no control plane is built: tests/k8s/cluster/build.sh control-plane")
    with ControlPlane(tmp_path_factory.mktemp("plane") / "cluster") as running:
        running.add_fake_nodes()
        yield running


@pytest.fixture(scope="session")
def node() -> Iterator[Node]:
    """A cluster of one real node, for the tests that sandbox.sh runs."""
    with Node() as running:
        yield running


class Team:
    """A namespace of its own, with volumes for its claims."""

    def __init__(self, plane: ControlPlane, namespace: str) -> None:
        self.plane = plane
        self.namespace = namespace

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        return self.plane.kubectl("-n", self.namespace, *arguments, stdin=stdin)

    def get(self, *what: str) -> Any:
        """One object, or the list of what fits."""
        found = json.loads(self.kubectl("get", *what, "-o", "json"))
        return found["items"] if found["kind"] == "List" else found

    def until(self, what: str, true: Callable[[], object]) -> None:
        try:
            wait_until(what, true, 180)
        except TimeoutError as error:
            pytest.fail(f"{error}\n{self.diagnosis()}")

    def diagnosis(self) -> str:
        """What a person would look at when something hangs."""
        return self.kubectl("get", "nodes,deployments,replicasets,jobs,pods,events", "-o", "wide")


@pytest.fixture
def team(plane: ControlPlane) -> Iterator[Team]:
    namespace = f"team-{uuid.uuid4().hex[:6]}"
    made: list[Object] = [
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {
                "name": namespace,
                "labels": {
                    "pod-security.kubernetes.io/enforce": "restricted",
                    "pod-security.kubernetes.io/warn": "restricted",
                    "app.kubernetes.io/part-of": "flow-images",
                },
            },
        }
    ]
    for claim in ("images", "models", "output"):
        made.append(
            {
                "apiVersion": "v1",
                "kind": "PersistentVolume",
                "metadata": {"name": f"{namespace}-{claim}"},
                "spec": {
                    "capacity": {"storage": "50Gi"},
                    "accessModes": ["ReadWriteMany", "ReadWriteOnce"],
                    "storageClassName": "manual",
                    "claimRef": {"namespace": namespace, "name": claim},
                    "hostPath": {"path": f"/nowhere/{claim}"},  # Never mounted: the nodes are fake.
                },
            }
        )
    plane.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(made))
    yield Team(plane, namespace)
    plane.kubectl("delete", "namespace", namespace, "--wait=false")


@pytest.fixture
def run(team: Team) -> Deploy:
    """Calls `flow-images deploy` in the test's namespace, by default as the administrator."""

    def call(command: str, *arguments: str, kubeconfig: Path | None = None) -> Ran:
        target = [f"--kubeconfig={kubeconfig or team.plane.admin}", f"--namespace={team.namespace}"]
        return deploy(command, *target, *arguments)

    return call


@pytest.fixture
def manifests(tmp_path: Path) -> Manifests:
    """A folder with an overlay of ours and, for the fake nodes, annotations on a workload's pods."""

    def make(overlay: str, kind: str, name: str, patch: Object | None = None, **annotations: str) -> str:
        folder = tmp_path / f"manifests-{uuid.uuid4().hex[:6]}"
        compose(folder, f"overlays/{overlay}", [])
        written = yaml.safe_load((folder / "kustomization.yaml").read_text())
        spec = patch or {}
        told = {f"test.flow-images/{key.replace('_', '-')}": value for key, value in annotations.items()}
        change: Object = {
            "apiVersion": "apps/v1" if kind == "Deployment" else "batch/v1",
            "kind": kind,
            "metadata": {"name": name},
            "spec": {**spec, "template": {**spec.get("template", {}), "metadata": {"annotations": told}}},
        }
        written["patches"] = [{"patch": yaml.safe_dump(change)}]
        (folder / "kustomization.yaml").write_text(yaml.safe_dump(written))
        return str(folder)

    assert K8S.is_dir()
    return make


@pytest.fixture
def answers(tmp_path: Path) -> Iterator[Answers]:
    """A server that gives every request the same answer; the test sets which."""
    made = Answers(tmp_path)
    with made.server:
        threading.Thread(target=made.server.serve_forever, daemon=True).start()
        yield made
        if made.waits:
            made.waits.set()
        made.server.shutdown()
