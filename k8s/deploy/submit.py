"""What each sub-command changes in the manifests, and the names that its objects get."""

import datetime
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from k8s.deploy import overlay
from k8s.deploy.cluster_errors import DeployError
from k8s.deploy.explain import WAITS
from k8s.deploy.overlay import Change, Object
from serving.errors import EXIT_USAGE

_POD_PATH = ("spec", "template", "spec")
_POD = "/" + "/".join(_POD_PATH)
_DASK = "--runner=DaskRunner"


def utc_seconds() -> int:
    """The version that a model published now gets."""
    return int(datetime.datetime.now(datetime.UTC).timestamp())


def train(
    folder: Path, namespace: str | None, options: Mapping[str, str | None], arguments: Sequence[str]
) -> list[Object]:
    """The training Job and what it needs, named after the version that it publishes."""
    current = overlay.build(folder)
    job = overlay.find(current, "Job", "train")
    values = _given(options)
    operations = _inserted(overlay.part(job, *_POD_PATH, "containers", 0, "args"), arguments)
    patches = [_own_values(job, values), _job_patch("train", f"train-{values['VERSION']}", operations)]
    return overlay.only(overlay.changed(folder, current, Change(namespace=namespace, patches=patches)), "train")


def predict(
    folder: Path,
    namespace: str | None,
    name: str,
    options: Mapping[str, str | None],
    shards: int | None,
    arguments: Sequence[str],
) -> list[Object]:
    """The prediction Job and what it needs, with as many pods, or Dask workers, as shards."""
    current = overlay.build(folder)
    job = overlay.find(current, "Job", "predict")
    values = _given(options)
    told = overlay.part(job, *_POD_PATH, "containers", 0, "args")
    operations = _inserted(told, arguments)
    workers: list[Object] = []
    if shards is not None and _DASK in told:
        workers = _workers(current, shards)
    elif shards is not None:
        operations += _shards(told, shards)
    if "SERVER" in values:
        operations += _no_wait(job)
    patches = [_own_values(job, values), _job_patch("predict", name, operations), *workers]
    return overlay.only(overlay.changed(folder, current, Change(namespace=namespace, patches=patches)), "predict")


def serve(
    folder: Path, namespace: str | None, *, version: int | None, model_name: str | None, replicas: int | None
) -> list[Object]:
    """The server and what it needs; with a version, that one alone."""
    current = overlay.build(folder)
    config = overlay.part(overlay.find(current, "ConfigMap", "serving-config"), "data", "models.config")
    operations: list[Object] = []
    options = {"model": {"MODEL_NAME": model_name}} if model_name else {}
    if replicas is not None:
        operations.append({"op": "add", "path": "/spec/replicas", "value": replicas})
    if overlay.has(current, "ConfigMap", "serving-sync"):
        options["serving-sync"] = {"PINNED_VERSION": "" if version is None else str(version)}
    change = Change(
        namespace=namespace,
        options=options,
        files={"models.config": overlay.served(config, version=version)},
        patches=[_patch("Deployment", "serving", operations)] if operations else [],
    )
    return overlay.only(overlay.changed(folder, current, change), "serving")


def _given(options: Mapping[str, str | None]) -> dict[str, str]:
    return {key: _text(value) for key, value in options.items() if value is not None}


def _text(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        shown = value.encode(errors="backslashreplace").decode()
        raise DeployError(f"{shown} is not UTF-8", EXIT_USAGE) from error
    return value


def _patch(kind: str, name: str, operations: Sequence[Object]) -> Object:
    return {"target": {"kind": kind, "name": name}, "patch": json.dumps(operations)}


def _own_values(job: Object, values: Mapping[str, str]) -> Object:
    """Puts values into a Job itself: they come before its ConfigMaps', and go with it, as ConfigMaps would not."""
    pod = overlay.part(job, *_POD_PATH)
    containers = {
        kind: [
            {"name": c["name"], "env": [{"name": k, "value": _literal(values[k]), "valueFrom": None} for k in used]}
            for c in pod.get(kind, [])
            if (used := [key for key in values if any(f"$({key})" in word for word in c.get("args", []))])
        ]
        for kind in ("initContainers", "containers")
    }
    template = {"spec": {kind: changed for kind, changed in containers.items() if changed}}
    patch = {
        "apiVersion": job["apiVersion"],
        "kind": "Job",
        "metadata": {"name": job["metadata"]["name"]},
        "spec": {"template": template},
    }
    return {"patch": json.dumps(patch)}


def _literal(value: str) -> str:
    return value.replace("$", "$$")  # Kubernetes would put variables into it.


def _job_patch(job: str, name: str, operations: Sequence[Object]) -> Object:
    rename = {"op": "replace", "path": "/metadata/name", "value": name}
    return {**_patch("Job", job, [rename, *operations]), "options": {"allowNameChange": True}}


def _inserted(told: Sequence[str], arguments: Sequence[str]) -> list[Object]:
    """Puts arguments before Beam's, which come after `--`."""
    place = told.index("--") if "--" in told else len(told)
    path = f"{_POD}/containers/0/args"
    return [
        {"op": "add", "path": f"{path}/{place + i}", "value": _text(argument)} for i, argument in enumerate(arguments)
    ]


def _workers(current: Sequence[Object], count: int) -> list[Object]:
    for kind, name, path in (
        ("Deployment", "dask-worker", "/spec/replicas"),
        ("DaskCluster", "dask", "/spec/worker/replicas"),
    ):
        if overlay.has(current, kind, name):
            return [_patch(kind, name, [{"op": "add", "path": path, "value": count}])]
    raise DeployError(
        "these manifests ask a Dask cluster that is not among them: leave `shards` out, and scale it yourself",
        EXIT_USAGE,
    )


def _shards(args: Sequence[str], shards: int) -> list[Object]:
    counts = [{"op": "replace", "path": f"/spec/{key}", "value": shards} for key in ("completions", "parallelism")]
    value = f"--shard=$(JOB_COMPLETION_INDEX)/{shards}"
    places = [place for place, argument in enumerate(args) if argument.startswith("--shard=")]
    return counts + [{"op": "replace", "path": f"{_POD}/containers/0/args/{i}", "value": value} for i in places]


def _no_wait(job: Object) -> list[Object]:
    """What waits for our own server, and its failures, have no use when another one is asked."""
    waits = [container["name"] == WAITS for container in overlay.part(job, *_POD_PATH).get("initContainers", [])]
    rules = job["spec"].get("podFailurePolicy", {}).get("rules", [])
    fails = [rule.get("onExitCodes", {}).get("containerName") == WAITS for rule in rules]
    return [
        {"op": "remove", "path": f"{path}/{found.index(True)}"}
        for path, found in ((f"{_POD}/initContainers", waits), ("/spec/podFailurePolicy/rules", fails))
        if any(found)
    ]
