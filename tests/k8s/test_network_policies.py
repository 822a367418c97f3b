"""Tier (c): who reaches whom on a real node that enforces network policies.

    tests/k8s/cluster/sandbox.sh .venv/bin/pytest -m k8s tests/k8s/test_network_policies.py

The pods have the labels that ours and other people's have. What runs in them listens, and connects when it is told.
"""

import copy
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping

import pytest
import yaml

from tests.k8s.builds import K8S, Object, compose
from tests.k8s.cluster.node import ADDRESS, IDENTITY_ADDRESS, PUBLIC_ADDRESS, Node, missing

pytestmark = [
    pytest.mark.k8s,
    pytest.mark.timeout(600),
    pytest.mark.skipif(missing() is not None, reason=missing() or ""),
]

LISTEN = """
import asyncio, sys

async def main():
    for place in sys.argv[1:]:
        host, _, port = place.rpartition(":")
        await asyncio.start_server(lambda reader, writer: writer.close(), host, int(port))
    await asyncio.Event().wait()

asyncio.run(main())
"""
CONNECT = """
import concurrent.futures, json, socket, sys

def is_reached(target):
    try:
        socket.create_connection(target, timeout=5).close()
    except socket.gaierror as error:
        return str(error)
    except OSError:
        return False
    return True

targets = json.loads(sys.argv[1])
with concurrent.futures.ThreadPoolExecutor(len(targets)) as pool:
    print(json.dumps(dict(zip(targets, pool.map(is_reached, map(tuple, targets.values()))))))
"""

PORTS = {"grpc": 8500, "rest": 8501, "tcp-comm": 8786, "worker": 9000}
"""Where each pod listens: the servers' ports and Dask's, by the names that Services call them."""

# A namespace each: who comes to base, if anything does. `shared` is a namespace that was there before.
NAMESPACES = {
    "open": [],
    "shared": ["network-policies"],
    "own": ["network-policies", "own-namespace"],
    "bucket": ["network-policies", "bucket-s3"],
    "dask": ["network-policies", "dask"],
}
ASKS = {"flow-images/asks-models": "true"}
STRANGERS = {"stranger": {"app": "shop"}, "asker": {"app": "shop", **ASKS}}
ELSEWHERE = {"monitoring": {"prometheus": {"app": "prometheus"}}, "elsewhere": STRANGERS}

SERVERS = {"grpc", "rest", "service"}
OUTSIDE = {"https", "http", "private", "identity"}
EVERYTHING = {*SERVERS, *OUTSIDE, "other port"}
REACHED = {
    # Without the component all is open, so the way is there.
    ("open", "stranger"): ("open", EVERYTHING),
    ("open", "train"): ("open", EVERYTHING),
    ("elsewhere", "stranger"): ("open", EVERYTHING),
    # Ours reach what they need, and nothing else.
    ("shared", "predict"): ("shared", SERVERS),
    ("shared", "train"): ("shared", {"https"}),
    ("shared", "serving"): ("open", set()),
    ("shared", "files"): ("shared", set()),
    ("own", "predict"): ("own", SERVERS),
    ("own", "train"): ("own", {"https"}),
    ("bucket", "predict"): ("bucket", {*SERVERS, "https", "identity"}),
    ("bucket", "train"): ("bucket", {"https", "identity"}),
    ("bucket", "serving"): ("open", {"https", "identity"}),
    # Others don't reach the servers without the label, and from another namespace not even with it.
    ("shared", "stranger"): ("shared", OUTSIDE),
    ("shared", "asker"): ("shared", {*OUTSIDE, *SERVERS}),
    ("elsewhere", "asker"): ("shared", OUTSIDE),
    ("monitoring", "prometheus"): ("shared", {*OUTSIDE, "rest"}),
    # In a namespace for ours alone, they reach nothing else, either.
    ("own", "stranger"): ("own", set()),
    ("own", "asker"): ("own", SERVERS),
}


class Network:
    """The pods of all namespaces."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def start(self, namespace: str, pods: Mapping[str, Mapping[str, str]], objects: Iterable[Object] = ()) -> None:
        """Makes a namespace with these objects and pods, each with its labels."""
        made = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
        everything = [made, *(_moved(o, namespace) for o in objects), *(_pod(namespace, *pod) for pod in pods.items())]
        self._node.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(everything))

    def wait(self, namespace: str) -> None:
        self._node.kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod", "--all", "--timeout=180s")

    def reached(self, namespace: str, pod: str, targets: Mapping[str, tuple[str, int]]) -> set[str]:
        """Which targets a pod can connect to."""
        connect = ["python", "-c", CONNECT, json.dumps(targets)]
        answers = json.loads(self._node.kubectl("-n", namespace, "exec", pod, "--", *connect))
        assert not [a for a in answers.values() if isinstance(a, str)], f"names are not resolved: {answers}"
        return {name for name, is_reached in answers.items() if is_reached}

    def check(self, namespace: str, pod: str, targets: Mapping[str, tuple[str, int]], expected: set[str]) -> None:
        """Waits until the pod reaches what is expected: policies follow a new pod within seconds."""
        found: set[str] = set()

        def as_expected() -> bool:
            nonlocal found
            found = self.reached(namespace, pod, targets)
            return found == expected

        try:
            self._node.wait_until("the policies are enforced", as_expected)
        except TimeoutError:
            pytest.fail(f"reaches {sorted(found)}, expected {sorted(expected)}")

    def address(self, namespace: str, pod: str) -> str:
        return self._node.kubectl("-n", namespace, "get", "pod", pod, "-o", "jsonpath={.status.podIP}")


def _moved(made: Object, namespace: str) -> Object:
    """The object in (or, if it is one, as) another namespace."""
    key = "name" if made["kind"] == "Namespace" else "namespace"
    return {**made, "metadata": {**made["metadata"], key: namespace}}


def _pod(namespace: str, name: str, labels: Mapping[str, str]) -> Object:
    """As the pod for files, but with these labels and without files."""
    pod: Object = copy.deepcopy(yaml.safe_load((K8S / "files.yaml").read_text()))
    pod["metadata"] = {"name": name, "namespace": namespace, "labels": dict(labels)}
    del pod["spec"]["volumes"]
    (container,) = pod["spec"]["containers"]
    del container["volumeMounts"]
    container["command"] = ["python", "-c", LISTEN, *(f"0.0.0.0:{port}" for port in PORTS.values())]
    container["ports"] = [{"name": port_name, "containerPort": port} for port_name, port in PORTS.items()]
    return pod


@pytest.fixture(scope="module")
def network(node: Node, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    made = Network(node)
    files = yaml.safe_load((K8S / "files.yaml").read_text())["metadata"]["labels"]
    for namespace, components in NAMESPACES.items():
        objects = compose(tmp_path_factory.mktemp(namespace), "base", components)
        ours = {
            made_by["metadata"]["name"]: made_by["spec"]["template"]["metadata"]["labels"]
            for made_by in objects
            if made_by["kind"] in ("Deployment", "Job")
        }
        if worker := ours.get("dask-worker"):
            ours["other-worker"] = worker
        wanted = [o for o in objects if o["kind"] in ("Namespace", "NetworkPolicy", "Service")]
        made.start(namespace, {**ours, "files": files, **STRANGERS}, wanted)
    for namespace, pods in ELSEWHERE.items():
        made.start(namespace, pods)
    for namespace in (*NAMESPACES, *ELSEWHERE):
        made.wait(namespace)
    places = [f"{PUBLIC_ADDRESS}:443", f"{PUBLIC_ADDRESS}:80", f"{ADDRESS}:443", f"{IDENTITY_ADDRESS}:80"]
    with subprocess.Popen([sys.executable, "-c", LISTEN, *places]) as outside:
        yield made
        outside.kill()
    node.kubectl("delete", "namespace", *NAMESPACES, *ELSEWHERE, "--wait=false")


def _targets(namespace: str) -> dict[str, tuple[str, int]]:
    """The servers of a namespace, by name, and what is outside the cluster."""
    domain = f"{namespace}.svc.cluster.local"
    return {
        "grpc": (f"serving-pods.{domain}", 8500),
        "rest": (f"serving-pods.{domain}", 8501),
        "service": (f"serving.{domain}", 8500),
        "other port": (f"serving-pods.{domain}", 9000),
        "https": (PUBLIC_ADDRESS, 443),
        "http": (PUBLIC_ADDRESS, 80),
        "private": (ADDRESS, 443),
        "identity": (IDENTITY_ADDRESS, 80),
    }


@pytest.mark.parametrize(("namespace", "pod"), REACHED)
def test_a_pod_reaches_what_it_may_and_nothing_else(network: Network, namespace: str, pod: str) -> None:
    there, expected = REACHED[namespace, pod]
    network.check(namespace, pod, _targets(there), expected)


def test_nobody_reaches_the_other_pods_of_ours_or_strangers_in_our_namespace(network: Network) -> None:
    pods = [(ns, pod) for ns in ("open", "shared", "own") for pod in ("predict", "train", "files", "stranger")]
    targets = {f"{namespace} {pod}": (network.address(namespace, pod), 9000) for namespace, pod in pods}
    open_ones = {name for name in targets if name.startswith("open ")} | {"shared stranger"}
    network.check("elsewhere", "stranger", targets, open_ones)
    network.check("shared", "stranger", targets, open_ones)


@pytest.mark.parametrize(
    ("pod", "expected"),
    {
        "predict": {"scheduler"},
        "dask-scheduler": {"worker"},
        "dask-worker": {"scheduler", "worker"},
        "serving": set(),
        "train": set(),
        "stranger": set(),
        "asker": set(),
    }.items(),
)
def test_only_those_who_work_with_dask_reach_it(network: Network, pod: str, expected: set[str]) -> None:
    targets = {
        "scheduler": ("dask-scheduler.dask.svc.cluster.local", 8786),
        "worker": (network.address("dask", "other-worker"), 9000),
    }
    network.check("dask", pod, targets, expected)
