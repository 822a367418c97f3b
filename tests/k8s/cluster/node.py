"""One real node, inside what sandbox.sh has made: containerd, runc, kubelet, kube-proxy, CoreDNS, network policies."""

import json
import os
import subprocess
from pathlib import Path

from tests.k8s.builds import CACHE, KUBE
from tests.k8s.cluster.control_plane import POD_ADDRESSES, SERVICE_ADDRESSES, ControlPlane

ADDRESS = "10.10.0.1"
PUBLIC_ADDRESS = "203.0.113.1"
IDENTITY_ADDRESS = "169.254.169.254"
NAME = "node"
ROUTER = CACHE / "bin/kube-router"
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

# As clusters have it: a pod behind a Service, so that network policies bear on it.
_DNS_ADDRESS = "10.96.0.10"
_DNS = """
apiVersion: v1
kind: ServiceAccount
metadata: {{name: dns, namespace: kube-system}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {{name: dns}}
rules:
- {{apiGroups: [""], resources: [services, pods, namespaces], verbs: [list, watch]}}
- {{apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [list, watch]}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {{name: dns}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: dns}}
subjects: [{{kind: ServiceAccount, name: dns, namespace: kube-system}}]
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: dns, namespace: kube-system}}
data:
  Corefile: |
    .:53 {{
      errors
      ready
      kubernetes cluster.local
      cache 1
    }}
---
apiVersion: v1
kind: Service
metadata: {{name: kube-dns, namespace: kube-system}}
spec:
  clusterIP: {address}
  selector: {{k8s-app: kube-dns}}
  ports: [{{name: dns, port: 53, protocol: UDP}}, {{name: dns-tcp, port: 53, protocol: TCP}}]
---
apiVersion: v1
kind: Pod
metadata: {{name: dns, namespace: kube-system, labels: {{k8s-app: kube-dns}}}}
spec:
  serviceAccountName: dns
  dnsPolicy: Default
  terminationGracePeriodSeconds: 0
  containers:
  - name: dns
    image: localhost/pause:1
    command: [/kube, dns, -conf, /etc/dns/Corefile]
    securityContext: {{runAsUser: 0}}
    readinessProbe: {{httpGet: {{path: /ready, port: 8181}}, periodSeconds: 1}}
    volumeMounts: [{{name: kube, mountPath: /kube}}, {{name: config, mountPath: /etc/dns}}]
  volumes:
  - {{name: kube, hostPath: {{path: {kube}, type: File}}}}
  - {{name: config, configMap: {{name: dns}}}}
"""


def missing() -> str | None:
    """Why there can be no node here, if so."""
    if "FLOW_IMAGES_SANDBOX" not in os.environ:
        return "runs by tests/k8s/cluster/sandbox.sh only"
    return not_built()


def not_built() -> str | None:
    """What a node would lack, if anything."""
    if not (KUBE.exists() and ROUTER.exists()):
        return "no control plane or no network policies are built: tests/k8s/cluster/build.sh"
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
            "clusterDNS": [_DNS_ADDRESS],
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
        self._enforce_network_policies()
        self.kubectl("apply", "-f", "-", stdin=_DNS.format(address=_DNS_ADDRESS, kube=KUBE))
        self.kubectl("-n", "kube-system", "wait", "--for=condition=Ready", "pod/dns", "--timeout=120s")

    def _enforce_network_policies(self) -> None:
        rights = (
            "pods,namespaces,nodes,services,endpoints,endpointslices.discovery.k8s.io,networkpolicies.networking.k8s.io"
        )
        self.kubectl("create", "clusterrole", "firewall", "--verb=get,list,watch", f"--resource={rights}")
        self.kubectl("create", "clusterrolebinding", "firewall", "--clusterrole=firewall", "--user=firewall")
        self.start(
            "firewall",
            [
                str(ROUTER),
                f"--kubeconfig={self.kubeconfig('firewall', 'firewall')}",
                f"--hostname-override={NAME}",
                f"--service-cluster-ip-range={SERVICE_ADDRESSES}",
                "--run-firewall=true",
                "--run-router=false",
                "--run-service-proxy=false",
                "--run-loadbalancer=false",
                "--health-port=0",
            ],
        )


def _ctr(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["ctr", "--address", SOCKET, "--namespace", "k8s.io", *arguments]
    return subprocess.run(command, capture_output=True, text=True)
