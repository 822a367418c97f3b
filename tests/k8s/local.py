"""The overlay `local` on the test node: with a module and options for drawn images, and with folders for its claims."""

from collections.abc import Mapping
from pathlib import Path

import yaml

from tests.k8s.builds import compose
from tests.k8s.cluster.node import NAME, Node

NAMESPACE = "flow-images"
VOLUMES = ("images", "models", "output")
CLASSES = {"cyan": (0, 200, 200), "magenta": (200, 0, 200), "yellow": (200, 200, 0)}


def write_overlay(folder: Path) -> None:
    """Writes an overlay on `local`: few epochs, and the module in the folder `hub` of the images."""
    options = {"train-options": {"HUB_MODEL": "/images/hub", "EPOCHS": "15"}, "predict-options": {"BATCH_SIZE": "16"}}
    merged = [
        {
            "name": name,
            "namespace": NAMESPACE,
            "behavior": "merge",
            "literals": [f"{key}={value}" for key, value in values.items()],
        }
        for name, values in options.items()
    ]
    compose(folder, "overlays/local", [], merged)


def add_volumes(node: Node, folders: Mapping[str, Path]) -> None:
    """Makes these folders the volumes of the claims of their names, and a storage class the default."""
    for folder in folders.values():
        folder.mkdir(parents=True)
    term = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [NAME]}]}
    storage = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": "manual", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": "kubernetes.io/no-provisioner",
    }
    volumes = [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": claim},
            "spec": {
                "capacity": {"storage": "1Gi"},
                "accessModes": ["ReadWriteOnce"],
                "storageClassName": "manual",
                "claimRef": {"namespace": NAMESPACE, "name": claim},
                "local": {"path": str(folder)},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [term]}},
            },
        }
        for claim, folder in folders.items()
    ]
    node.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all([storage, *volumes]))
