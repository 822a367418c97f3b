"""A real Kubernetes control plane as child processes on one address: etcd, API server, controllers, scheduler.

TLS everywhere, RBAC, the node authorizer and Pod Security admission are on. It needs no root and no containers.
"""

import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.k8s.builds import CACHE, KUBE
from tests.k8s.cluster.pki import Authority

KWOK = CACHE / "bin/kwok"
HERE = Path(__file__).parent
SERVICE_ADDRESSES = "10.96.0.0/16"
POD_ADDRESSES = "10.244.0.0/16"


def free_ports(address: str, count: int) -> list[int]:
    """Ports that nobody listens on at this address, all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind((address, 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def wait_until(what: str, true: Callable[[], object], seconds: float = 60) -> None:
    """Asks until it is true; fails with `what` when the time is over."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        time.sleep(0.2)


class ControlPlane:
    """Starts with the `with` block, and its processes end with it."""

    def __init__(self, folder: Path, address: str = "127.0.0.1", *, serve_from_inside: bool = False) -> None:
        self.folder = folder
        self.address = address
        self._reconciler = "lease" if serve_from_inside else "none"
        self._running: list[tuple[str, subprocess.Popen[bytes]]] = []
        self.authority = Authority(folder / "pki")
        (folder / "log").mkdir()
        api, *self._ports = free_ports(address, 6)
        self.url = f"https://{address}:{api}"
        self.admin = self.kubeconfig("admin", "admin", "system:masters")

    def __enter__(self) -> Self:
        try:
            self._start_all()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def kubeconfig(self, name: str, user: str, group: str = "") -> Path:
        """A kubeconfig for a user (and group) of this cluster."""
        self.authority.issue(name, user, group)
        return self.authority.kubeconfig(name, self.url)

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Runs kubectl as the administrator and gives its output."""
        command = [str(KUBE), "kubectl", "--kubeconfig", str(self.admin), *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"kubectl {' '.join(arguments)}: {done.stderr}")
        return done.stdout

    def start(self, name: str, command: list[str]) -> None:
        """Starts a process that ends with the cluster; its output goes to log/NAME.log."""
        with (self.folder / f"log/{name}.log").open("wb") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder)
        self._running.append((name, process))

    def wait_until(self, what: str, true: Callable[[], object], seconds: float = 60) -> None:
        """As the function of this name, and says at once when a process has ended."""

        def checked() -> object:
            for name, process in self._running:
                if process.poll() is not None:
                    log = (self.folder / f"log/{name}.log").read_text(errors="replace")
                    raise RuntimeError(f"{name} ended with {process.returncode}: {log[-1500:]}")
            return true()

        wait_until(what, checked, seconds)

    def stop(self) -> None:
        """Kills what was started, the last first: nothing of it is kept, and the API server would wait for clients."""
        for _, process in reversed(self._running):
            process.kill()
            process.wait()
        self._running.clear()

    def add_fake_nodes(self) -> None:
        """Nodes that say of every pod what its annotations tell them to; see kwok.yaml."""
        self.kubectl("apply", "-f", str(HERE / "fake-nodes.yaml"))
        (port,) = free_ports(self.address, 1)
        (self.folder / "pod.log").write_text("2026-01-01T00:00:01.000000000Z stdout F a line of the pod\n")
        self.authority.issue("kwok", "kwok", hosts=(self.address,))
        pki = self.folder / "pki"
        self.start(
            "kwok",
            [
                str(KWOK),
                f"--kubeconfig={self.authority.kubeconfig('kwok', self.url)}",
                f"--config={HERE / 'kwok.yaml'}",
                "--manage-nodes-with-label-selector=type=kwok",
                f"--server-address={self.address}:{port}",
                f"--node-ip={self.address}",
                f"--node-port={port}",
                f"--tls-cert-file={pki / 'kwok.crt'}",
                f"--tls-private-key-file={pki / 'kwok.key'}",
                "--cidr=10.200.0.0/16",
                # As a kubelet does. Without leases kwok's heartbeats are up to 55 s apart; after 50 s the controllers
                # take a node for lost, and its pods' readiness never comes back.
                "--node-lease-duration-seconds=40",
            ],
        )
        ready = ("get", "nodes", "-o", "jsonpath={.items[*].status.conditions[?(@.type=='Ready')].status}")
        self.wait_until("fake nodes ready", lambda: self.kubectl(*ready).split() == ["True"] * 3)

    def _start_all(self) -> None:
        etcd, peer, controllers, scheduler, _ = self._ports
        pki = self.folder / "pki"
        inside = ("127.0.0.1", self.address, "localhost")
        self.authority.issue("etcd", "etcd", hosts=inside)
        self.authority.issue("apiserver", "apiserver", hosts=(*inside, "10.96.0.1", "kubernetes.default.svc"))
        self.authority.issue("to-kubelet", "kube-apiserver-kubelet-client", "system:masters")
        trust = self.authority.certificate
        urls = f"https://{self.address}:{etcd}", f"https://{self.address}:{peer}"
        self._component(
            "etcd",
            "--name=test",
            "--data-dir=etcd",
            "--unsafe-no-fsync",  # Nothing here outlives the process.
            "--log-level=warn",
            *(f"--{kind}-client-urls={urls[0]}" for kind in ("listen", "advertise")),
            *(f"--{kind}-peer-urls={urls[1]}" for kind in ("listen", "initial-advertise")),
            f"--initial-cluster=test={urls[1]}",
            *(f"--{kind}cert-file={pki / 'etcd.crt'}" for kind in ("", "peer-")),
            *(f"--{kind}key-file={pki / 'etcd.key'}" for kind in ("", "peer-")),
            *(f"--{kind}trusted-ca-file={trust}" for kind in ("", "peer-")),
            *(f"--{kind}client-cert-auth" for kind in ("", "peer-")),
        )
        self._component(
            "apiserver",
            f"--bind-address={self.address}",
            f"--advertise-address={self.address}",
            f"--secure-port={self.url.rpartition(':')[2]}",
            f"--endpoint-reconciler-type={self._reconciler}",
            f"--etcd-servers={urls[0]}",
            f"--etcd-cafile={trust}",
            f"--etcd-certfile={pki / 'etcd.crt'}",
            f"--etcd-keyfile={pki / 'etcd.key'}",
            f"--tls-cert-file={pki / 'apiserver.crt'}",
            f"--tls-private-key-file={pki / 'apiserver.key'}",
            f"--client-ca-file={trust}",
            f"--kubelet-client-certificate={pki / 'to-kubelet.crt'}",
            f"--kubelet-client-key={pki / 'to-kubelet.key'}",
            "--kubelet-preferred-address-types=InternalIP",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={self.authority.tokens}",
            f"--service-account-signing-key-file={self.authority.tokens}",
            f"--service-cluster-ip-range={SERVICE_ADDRESSES}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--anonymous-auth=false",
            "--allow-privileged",
        )
        self.wait_until("API server ready", self._ready)
        self._component(
            "controllers",
            f"--kubeconfig={self.kubeconfig('controllers', 'system:kube-controller-manager')}",
            "--bind-address=127.0.0.1",
            f"--secure-port={controllers}",
            "--leader-elect=false",
            "--use-service-account-credentials",
            f"--service-account-private-key-file={self.authority.tokens}",
            f"--root-ca-file={trust}",
            "--allocate-node-cidrs",
            f"--cluster-cidr={POD_ADDRESSES}",
        )
        self._component(
            "scheduler",
            f"--kubeconfig={self.kubeconfig('scheduler', 'system:kube-scheduler')}",
            "--bind-address=127.0.0.1",
            f"--secure-port={scheduler}",
            "--leader-elect=false",
        )
        accounts = ("get", "serviceaccounts", "-n", "default", "-o", "name")
        self.wait_until("controllers at work", lambda: "default" in self.kubectl(*accounts))

    def _component(self, name: str, *flags: str) -> None:
        self.start(name, [str(KUBE), name, *flags])

    def _ready(self) -> bool:
        context = ssl.create_default_context(cafile=str(self.authority.certificate))
        pki = self.folder / "pki"
        context.load_cert_chain(pki / "admin.crt", pki / "admin.key")
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=2, context=context) as answer:
                return bool(answer.status == 200)
        except (OSError, urllib.error.URLError):
            return False
