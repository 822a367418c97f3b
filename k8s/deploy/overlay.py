"""Builds the manifests with the user's values, as an overlay that kustomize puts on top of a folder of ours or theirs.

The client writes what a user would write by hand, so that both ways end in the same objects.
"""

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from yaml import YAMLError

from k8s.deploy.cluster_errors import DeployError
from serving.errors import EXIT_USAGE

Object = dict[str, Any]

HERE = Path(__file__).parents[1]
COMPONENT = "app.kubernetes.io/component"


def folder_of(manifests: str) -> Path:
    """The folder that `manifests` means: one of our overlays by its name, or a path."""
    ours = HERE / "overlays" / manifests
    folder = ours if ours.is_dir() else Path(manifests)
    if not (folder / "kustomization.yaml").is_file():
        names = ", ".join(sorted(p.name for p in (HERE / "overlays").iterdir()))
        raise DeployError(
            f"no kustomization.yaml in {folder}: give a folder that has one, or one of {names}", EXIT_USAGE
        )
    return folder


@dataclass(frozen=True, kw_only=True)
class Change:
    """What the user wants otherwise than the manifests say."""

    namespace: str | None = None
    options: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Generated ConfigMap -> key -> value; the pods that read it are rolled."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Files of the ConfigMap serving-config -> new content."""
    patches: Sequence[Object] = ()
    """Kustomize patches: {"target": ..., "patch": ..., "options": ...}."""


def build(folder: Path) -> list[Object]:
    """All objects of a folder of manifests."""
    if kubectl := shutil.which("kubectl"):
        command = [kubectl, "kustomize", str(folder)]
    elif kustomize := shutil.which("kustomize"):
        command = [kustomize, "build", str(folder)]
    else:
        raise DeployError("the manifests are built by kubectl: install it, and put it on the PATH")
    try:
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")
    except OSError as error:
        raise DeployError(f"the manifests are built by kubectl, which can't be run: {error}") from error
    if done.returncode:
        why = done.stderr.strip().splitlines() or [f"{' '.join(command)} ended with {done.returncode}"]
        raise DeployError(f"the manifests in {folder} don't build: {why[-1]}", EXIT_USAGE)
    try:
        objects = [o for o in yaml.safe_load_all(done.stdout) if o]
        for o in objects:
            part(o, "apiVersion")
            part(o, "kind")
            part(o, "metadata", "name")
    except (YAMLError, DeployError) as error:
        raise DeployError(
            f"what {command[0]} makes of {folder} is not a list of objects: {error}", EXIT_USAGE
        ) from error
    return objects


def changed(folder: Path, current: Sequence[Object], change: Change) -> list[Object]:
    """All objects of a folder, which is `current` as it is, with a change on top."""
    with _temporary() as written:
        top, options = written / "top", written / "options"
        for each in (top, options):
            each.mkdir()
        # kustomize finds a generated ConfigMap to merge with by its namespace too, so that is changed one level up.
        _write(options, _options(folder.resolve(), options, current, change))
        outer: Object = {"resources": ["../options"]}
        if change.namespace:
            outer["namespace"] = change.namespace
        _write(top, outer)
        return build(top)


def only(objects: Sequence[Object], component: str) -> list[Object]:
    """What one component needs: its own objects, and those that belong to none (namespace, policies, volumes)."""
    shared = {None, "storage"}
    return [o for o in objects if o["metadata"].get("labels", {}).get(COMPONENT) in {component, *shared}]


def find(objects: Sequence[Object], kind: str, name: str) -> Object:
    """The object of this kind and name; a hash that kustomize put behind the name is ignored."""
    for o in objects:
        if _is(o, kind, name):
            return o
    raise DeployError(f"the manifests have no {kind} {name}: start from one of the project's overlays", EXIT_USAGE)


def part(obj: Any, *path: str | int) -> Any:
    """What lies at a path of keys and places in an object; the message of a missing one names it."""
    found = obj
    for step in path:
        try:
            found = found[step]
        except (KeyError, IndexError, TypeError) as error:
            where = ".".join(str(step) for step in path)
            called = _called(obj)
            raise DeployError(
                f"{called} has no {where}: start from one of the project's overlays", EXIT_USAGE
            ) from error
    return found


def has(objects: Sequence[Object], kind: str, name: str) -> bool:
    """Whether `find` would find it."""
    return any(_is(o, kind, name) for o in objects)


def served(models_config: str, *, version: int | None) -> str:
    """models.config with another version policy; None: the two latest."""
    policy = f"specific {{ versions: {version} }}" if version is not None else "latest { num_versions: 2 }"
    changed, count = re.subn(
        r"model_version_policy\s*:?\s*{[^{}]*(?:{[^{}]*}[^{}]*)*}",
        f"model_version_policy {{ {policy} }}",
        models_config,
    )
    if count != 1:
        raise DeployError("models.config must have exactly one model_version_policy { … }: edit it by hand", EXIT_USAGE)
    return changed


@contextlib.contextmanager
def _temporary() -> Iterator[Path]:
    try:
        with tempfile.TemporaryDirectory(prefix="flow-images-") as written:
            yield Path(written).resolve()
    except OSError as error:
        raise DeployError(f"the changed manifests can't be written: {error}; TMPDIR sets another folder") from error


def _is(o: Object, kind: str, name: str) -> bool:
    return o["kind"] == kind and bool(re.fullmatch(rf"{re.escape(name)}(-[a-z0-9]{{10}})?", o["metadata"]["name"]))


def _called(obj: Any) -> str:
    try:
        return f"{obj['kind']} {obj['metadata']['name']}"
    except (KeyError, TypeError):
        return repr(obj)[:100]


def _options(folder: Path, where: Path, current: Sequence[Object], change: Change) -> Object:
    generators: list[Object] = [
        {"name": name, "literals": [f"{key}={value}" for key, value in values.items()]}
        for name, values in change.options.items()
    ]
    if change.files:
        for name, content in change.files.items():
            (where / name).write_text(content)
        generators.append({"name": "serving-config", "files": list(change.files)})
    for generator in generators:
        generator["behavior"] = "merge"
        generator["namespace"] = find(current, "ConfigMap", generator["name"])["metadata"].get("namespace", "")
    return {
        "resources": [os.path.relpath(folder, where)],
        "configMapGenerator": generators,
        "patches": list(change.patches),
    }


def _write(folder: Path, kustomization: Object) -> None:
    kinds = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization"}
    (folder / "kustomization.yaml").write_text(yaml.safe_dump({**kinds, **kustomization}))
