"""What each sub-command changes in the manifests, and the names that its objects get."""

import datetime
import json
from collections.abc import Sequence
from pathlib import Path

from k8s import overlay
from k8s.overlay import Change, Object


def utc_seconds() -> int:
    """The version that a model published now gets."""
    return int(datetime.datetime.now(datetime.UTC).timestamp())


def train(
    folder: Path, namespace: str | None, options: dict[str, str | None], arguments: Sequence[str]
) -> list[Object]:
    """The training Job and what it needs, named after the version that it publishes."""
    values = {key: value for key, value in options.items() if value is not None}
    patches = _job_patches(overlay.render(folder), "train", f"train-{values['VERSION']}", arguments)
    return _rendered(folder, "train", Change(namespace=namespace, options={"train-options": values}, patches=patches))


def predict(
    folder: Path,
    namespace: str | None,
    name: str,
    options: dict[str, str | None],
    shards: int | None,
    arguments: Sequence[str],
) -> list[Object]:
    """The prediction Job and what it needs, with as many pods as shards."""
    values = {key: value for key, value in options.items() if value is not None}
    patches = _job_patches(overlay.render(folder), "predict", name, arguments, shards)
    return _rendered(
        folder, "predict", Change(namespace=namespace, options={"predict-options": values}, patches=patches)
    )


def serve(
    folder: Path, namespace: str | None, *, version: int | None, model_name: str | None, replicas: int | None
) -> list[Object]:
    """The server and what it needs; with a version, that one alone."""
    current = overlay.render(folder)
    config = overlay.find(current, "ConfigMap", "serving-config")["data"]["models.config"]
    operations: list[Object] = []
    if replicas is not None:
        operations.append({"op": "add", "path": "/spec/replicas", "value": replicas})
    if model_name is not None:
        container = "/spec/template/spec/containers/0"
        for probe, path in (("startupProbe", "/metadata"), ("readinessProbe", "/metadata"), ("livenessProbe", "")):
            where = f"{container}/{probe}/httpGet/path"
            operations.append({"op": "replace", "path": where, "value": f"/v1/models/{model_name}{path}"})
    target = {"kind": "Deployment", "name": "serving"}
    options: dict[str, dict[str, str]] = {}
    if model_name is not None and overlay.has(current, "ConfigMap", "serving-sync"):
        source = overlay.find(current, "ConfigMap", "serving-sync")["data"]["MODEL_SOURCE"]
        options["serving-sync"] = {"MODEL_SOURCE": f"{source.rpartition('/')[0]}/{model_name}"}
    return _rendered(
        folder,
        "serving",
        Change(
            namespace=namespace,
            options=options,
            files={"models.config": overlay.served(config, version=version, model_name=model_name)},
            patches=[{"target": target, "patch": json.dumps(operations)}] if operations else [],
        ),
    )


def _rendered(folder: Path, component: str, change: Change) -> list[Object]:
    return overlay.only(overlay.render(folder, change), component)


def _job_patches(
    current: Sequence[Object], job: str, name: str, arguments: Sequence[str], shards: int | None = None
) -> list[Object]:
    spec = overlay.find(current, "Job", job)["spec"]
    args = "/spec/template/spec/containers/0/args"
    operations: list[Object] = [{"op": "replace", "path": "/metadata/name", "value": name}]
    operations += [{"op": "add", "path": f"{args}/-", "value": argument} for argument in arguments]
    if shards is not None:
        for key in ("completions", "parallelism"):
            operations.append({"op": "replace", "path": f"/spec/{key}", "value": shards})
        for place, argument in enumerate(spec["template"]["spec"]["containers"][0]["args"]):
            if argument.startswith("--shard="):
                value = f"--shard=$(JOB_COMPLETION_INDEX)/{shards}"
                operations.append({"op": "replace", "path": f"{args}/{place}", "value": value})
    target = {"kind": "Job", "name": job}
    return [{"target": target, "patch": json.dumps(operations), "options": {"allowNameChange": True}}]
