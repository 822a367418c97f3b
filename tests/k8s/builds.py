"""Builds manifests as a user would, with kustomize, from a folder that lists what is wanted."""

import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

K8S = Path(__file__).parents[2] / "k8s"
CACHE = Path(
    os.environ.get("FLOW_IMAGES_K8S")
    or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "flow-images-k8s"
)
"""Where cluster/build.sh puts what it builds."""

KUBE = CACHE / ("bin/kube" + (f"-{v}" if (v := os.environ.get("KUBERNETES")) else ""))
"""Kubernetes' own parts in one program, of the version KUBERNETES, by default that of cluster/kube/go.mod."""

Object = dict[str, Any]


def kubectl() -> list[str] | None:
    """The kubectl to call: the user's own, else the test cluster's."""
    if found := shutil.which("kubectl"):
        return [found]
    return [str(KUBE), "kubectl"] if KUBE.exists() else None


def build(folder: Path) -> list[Object]:
    """All objects that `kubectl apply -k folder` would send."""
    command = kubectl()
    assert command, "needs kubectl"
    done = subprocess.run([*command, "kustomize", str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def compose(folder: Path, base: str, components: Iterable[str], options: Iterable[Object] = ()) -> list[Object]:
    """Builds one of our folders with components of ours on top, from a kustomization outside the project."""

    def relative(name: str) -> str:
        return os.path.relpath(K8S / name, folder)

    folder.mkdir(parents=True, exist_ok=True)
    kustomization: Object = {
        "resources": [relative(base)],
        "components": [relative(f"components/{c}") for c in components],
    }
    kustomization["configMapGenerator"] = list(options)
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return build(folder)


def one(objects: Iterable[Object], kind: str, name: str) -> Object:
    """The object of this kind and name (a generated hash behind the name is ignored)."""
    found = [
        o
        for o in objects
        if o["kind"] == kind and (o["metadata"]["name"] == name or o["metadata"]["name"].startswith(f"{name}-"))
    ]
    exact = [o for o in found if o["metadata"]["name"] == name]
    assert len(exact or found) == 1, f"{kind} {name}: {[o['metadata']['name'] for o in found]}"
    return (exact or found)[0]
