"""One real node for trying things by hand, until Ctrl-C: `make cluster`, by by_hand.sh."""

import json
import math
import shlex
import signal
import sys
from pathlib import Path

from serving.process.tensorflow_import import import_tensorflow
from tests.k8s.builds import KUBE
from tests.k8s.cluster.node import Node
from tests.k8s.inputs import draw_images, make_hub_module
from tests.k8s.local import CLASSES, VOLUMES, add_volumes, write_overlay

_TEXT = """
A cluster of one node is up: Kubernetes {version}, with the project's images on it. Network policies are enforced,
and no pod reaches the internet. To use it from another terminal, as root, paste this line there first:

  export PATH={bin}:$PATH    # its kubectl and flow-images

Then, for example:

  kubectl get nodes
  kubectl apply -k {overlay}    # k8s/overlays/local on drawn images
  flow-images deploy status
  kubectl -n flow-images wait --for=condition=Complete job/train job/predict --timeout=10m
  head {volumes}/output/predictions/predictions.csv

kubeconfig   {kubeconfig} (for programs in the cluster's network: nsenter --net={network} COMMAND)
volumes      {volumes}: {names}, for the claims of these names in flow-images
logs         {logs}

Ctrl-C here ends it, and nothing of it is left.
"""


def main() -> None:
    """Runs the cluster until a SIGINT."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # Also where a shell had it ignored.
    print("Starting a cluster, which takes a minute …", flush=True)
    try:
        with Node() as node:
            print(_prepare(node), flush=True)
            node.wait_until("Ctrl-C", lambda: False, math.inf)
    except KeyboardInterrupt:
        print("Ending …", flush=True)


def _prepare(node: Node) -> str:
    """Makes volumes with images, an overlay that uses them, and commands for outside; gives what is to be said."""
    folder = node.folder.parent
    volumes = {name: folder / "volumes" / name for name in VOLUMES}
    add_volumes(node, volumes)
    draw_images(volumes["images"], CLASSES, each=20)
    import_tensorflow()
    make_hub_module(volumes["images"] / "hub")
    write_overlay(folder / "overlay")
    (folder / "bin").mkdir()
    _write_command(node, "kubectl", str(KUBE), "kubectl")
    _write_command(node, "flow-images", sys.executable, "-m", "flow_images")
    version = json.loads(node.kubectl("version", "-o", "json"))["serverVersion"]["gitVersion"]
    return _TEXT.format(
        version=version,
        bin=folder / "bin",
        overlay=folder / "overlay",
        volumes=folder / "volumes",
        names=", ".join(volumes),
        kubeconfig=node.admin,
        network=folder / "net",
        logs=node.folder / "log",
    )


def _write_command(node: Node, name: str, *words: str) -> None:
    """A command that does its work in the cluster's network, where its addresses are known."""
    folder = node.folder.parent
    path = folder / "bin" / name
    environment = f"KUBECONFIG={node.admin} PYTHONPATH={Path.cwd()} PATH={folder / 'bin'}:$PATH"
    path.write_text(f'#!/bin/sh\nexec nsenter --net={folder / "net"} env {environment} {shlex.join(words)} "$@"\n')
    path.chmod(0o755)


if __name__ == "__main__":
    main()
