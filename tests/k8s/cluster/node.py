"""One real node: containerd, runc, kubelet, kube-proxy and CoreDNS, inside what sandbox.sh has made."""

import json
import os
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

from tests.k8s.builds import CACHE, KUBE
from tests.k8s.cluster.control_plane import POD_ADDRESSES, ControlPlane

ADDRESS = "10.10.0.1"
NAME = "node"
SOCKET = "/run/containerd/containerd.sock"
IMAGES = ("pause", "trainer", "predict", "predict-s3", "server")

_CONTAINERD = """
version = 2
root = "{folder}/containerd"
state = "/run/containerd"
oom_score = 0
[grpc]
  address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  restrict_oom_score_adj = true  # Lowering a score needs a right that a container of a CI service often lacks.
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{folder}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
"""

_DNS = """
.:53 {{
  bind {address}
  errors
  ready 127.0.0.1:8181
  kubernetes cluster.local {{
    kubeconfig {kubeconfig}
  }}
  cache 1
}}
"""


def missing() -> str | None:
    """Why there can be no node here, if so."""
    if "FLOW_IMAGES_SANDBOX" not in os.environ:
        return "runs by tests/k8s/cluster/sandbox.sh only"
    if not KUBE.exists():
        return "no control plane is built: tests/k8s/cluster/build.sh"
    if absent := [n for n in IMAGES if not (CACHE / f"images/{n}.tar").exists()]:
        return f"no image {', '.join(absent)}: tests/k8s/cluster/images.sh"
    return None


class Node(ControlPlane):
    """A cluster of one real node, with the project's images on it."""

    def __init__(self) -> None:
        super().__init__(Path(os.environ["FLOW_IMAGES_SANDBOX"]) / "cluster", ADDRESS, serve_from_inside=True)

    def _start_all(self) -> None:
        super()._start_all()
        self._start_containers()
        self._start_kubelet()
        self._start_network()

    def _start_containers(self) -> None:
        folder = self.folder / "containers"
        (folder / "cni").mkdir(parents=True)
        bridge = {
            "type": "bridge",
            "bridge": "pods0",
            "isGateway": True,
            "hairpinMode": True,
            "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.244.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]},
        }
        network = {"cniVersion": "1.0.0", "name": "pods", "plugins": [bridge]}
        (folder / "cni/pods.conflist").write_text(json.dumps(network))
        (folder / "containerd.toml").write_text(_CONTAINERD.format(folder=folder, socket=SOCKET))
        self.start("containerd", ["containerd", "--config", str(folder / "containerd.toml")])
        self.wait_until("containerd answers", lambda: _ctr("version").returncode == 0)
        for name in IMAGES:
            done = _ctr("images", "import", str(CACHE / f"images/{name}.tar"))
            assert done.returncode == 0, done.stderr

    def _start_kubelet(self) -> None:
        self.authority.issue("kubelet-server", f"system:node:{NAME}", "system:nodes", hosts=(self.address,))
        pki = self.folder / "pki"
        config = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": self.address,
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(self.authority.certificate)},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": str(pki / "kubelet-server.crt"),
            "tlsPrivateKeyFile": str(pki / "kubelet-server.key"),
            "containerRuntimeEndpoint": f"unix://{SOCKET}",
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{self.folder.parent.name}",  # As sandbox.sh has made it.
            "failCgroupV1": False,
            "failSwapOn": False,
            "oomScoreAdj": 0,
            "makeIPTablesUtilChains": False,
            "clusterDomain": "cluster.local",
            "clusterDNS": [self.address],
            "resolvConf": "",
            "syncFrequency": "10s",
            "imageGCHighThresholdPercent": 100,
            "evictionHard": {"memory.available": "200Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        }
        path = self.folder / "kubelet.json"
        path.write_text(json.dumps(config))
        kubeconfig = self.kubeconfig("kubelet", f"system:node:{NAME}", "system:nodes")
        self._component(
            "kubelet",
            f"--config={path}",
            f"--kubeconfig={kubeconfig}",
            f"--hostname-override={NAME}",
            f"--node-ip={self.address}",
        )
        ready = ("get", "nodes", "-o", "jsonpath={.items[*].status.conditions[?(@.type=='Ready')].status}")
        self.wait_until("node ready", lambda: self.kubectl(*ready) == "True", 120)

    def _start_network(self) -> None:
        config = {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "nftables",
            "clientConnection": {"kubeconfig": str(self.kubeconfig("proxy", "system:kube-proxy"))},
            "hostnameOverride": NAME,
            "clusterCIDR": POD_ADDRESSES,
            "healthzBindAddress": "127.0.0.1:10256",
            "metricsBindAddress": "127.0.0.1:10249",
            "oomScoreAdj": 0,
            "conntrack": {"maxPerCore": 0, "min": 0},
        }
        path = self.folder / "proxy.json"
        path.write_text(json.dumps(config))
        self._component("proxy", f"--config={path}")
        rights = ["--verb=list,watch", "--resource=services,pods,namespaces,endpointslices.discovery.k8s.io"]
        self.kubectl("create", "clusterrole", "dns", *rights)
        self.kubectl("create", "clusterrolebinding", "dns", "--clusterrole=dns", "--user=dns")
        corefile = self.folder / "Corefile"
        corefile.write_text(_DNS.format(address=self.address, kubeconfig=self.kubeconfig("dns", "dns")))
        self._component("dns", "-conf", str(corefile))
        self.wait_until("cluster DNS ready", _dns_ready)


def _ctr(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["ctr", "--address", SOCKET, "--namespace", "k8s.io", *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def _dns_ready() -> bool:
    try:
        with urllib.request.urlopen("http://127.0.0.1:8181/ready", timeout=2) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False
