"""What the client makes of the manifests for each Job: values that are the Job's own."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.k8s.builds import Object, compose, kubectl, one
from tests.k8s.command import deploy

pytestmark = pytest.mark.skipif(kubectl() is None, reason="needs kubectl")

TRAIN = {
    "labels": ("LABELS", "/images/new.csv"),
    "images": ("IMAGES", "/images/new"),
    "hub-model": ("HUB_MODEL", "/images/hub"),
    "model-store": ("MODEL_STORE", "/models/other"),
    "name": ("MODEL_NAME", "cats"),
    "version": ("VERSION", "7"),
    "epochs": ("EPOCHS", "3"),
}
PREDICT = {
    "input": ("INPUT", "/images/new"),
    "output": ("OUTPUT", "/output/$HOME $(A)"),
    "model-name": ("MODEL_NAME", "cats"),
    "wire": ("WIRE", "uint8"),
    "batch-size": ("BATCH_SIZE", "8"),
}


def _built(*arguments: str) -> list[Object]:
    command, *flags = arguments
    result = deploy(command, "--dry-run=client", *flags)
    assert result.exit_code == 0, result.output
    return list(yaml.safe_load_all(result.stdout))


def _variables(container: Object) -> dict[str, Any]:
    return {variable["name"]: variable for variable in container.get("env", [])}


@pytest.mark.parametrize("manifests", ["local", "bucket-gs", "bucket-s3"])
@pytest.mark.parametrize(("command", "flags"), [("train", TRAIN), ("predict", PREDICT)])
def test_each_flag_is_a_value_of_the_job_itself(
    command: str, flags: dict[str, tuple[str, str]], manifests: str
) -> None:
    given = [f"--{flag}={value}" for flag, (_, value) in flags.items()]
    job = next(o for o in _built(command, "-k", manifests, *given) if o["kind"] == "Job")
    pod = job["spec"]["template"]["spec"]
    variables = _variables(pod["containers"][0])
    for name, value in flags.values():
        assert variables[name] == {"name": name, "value": value.replace("$", "$$")}
    for container in pod.get("initContainers", []):
        assert _variables(container)["MODEL_NAME"]["value"] == "cats"


@pytest.mark.parametrize(
    ("command", "other"),
    [("train", ["--version=7", "--epochs=3"]), ("predict", ["--output=/output/b", "--wire=uint8"])],
)
def test_jobs_of_the_same_manifests_share_their_configmaps(command: str, other: list[str]) -> None:
    def names(*flags: str) -> set[str]:
        return {o["metadata"]["name"] for o in _built(command, *flags) if o["kind"] == "ConfigMap"}

    assert names() == names(*other)
    assert one(_built("train", "--version=7"), "Job", "train-7")


@pytest.mark.parametrize(
    ("component", "kind", "where"),
    [("dask", "Deployment", "dask-worker"), ("dask-operator", "DaskCluster", "dask")],
)
def test_shards_are_the_workers_of_a_dask_cluster(tmp_path: Path, component: str, kind: str, where: str) -> None:
    compose(tmp_path / "own", "overlays/local", [component])
    objects = _built("predict", "-k", str(tmp_path / "own"), "--shards=7", "--job-name=p", "--", "--max-rejected=3")
    spec = one(objects, kind, where)["spec"]
    assert spec.get("worker", spec)["replicas"] == 7
    job = one(objects, "Job", "p")["spec"]
    assert (job["completions"], job["parallelism"]) == (1, 1)
    args = job["template"]["spec"]["containers"][0]["args"]
    # Beam's own flags stay last.
    place = args.index("--")
    assert args[place - 1] == "--max-rejected=3"
    assert args[place + 1 :] == ["--runner=DaskRunner", "--dask_client_address=$(DASK_SCHEDULER)"]
    assert not [arg for arg in args if arg.startswith("--shard=")]


def test_the_workers_of_somebody_elses_dask_cluster_are_not_set(tmp_path: Path) -> None:
    compose(tmp_path / "own", "overlays/local", ["dask-job"])
    result = deploy("predict", "-k", str(tmp_path / "own"), "--shards=7", "--dry-run=client")
    assert result.exit_code == 2
    assert "leave --shards out" in result.output


def test_dask_workers_are_made_like_the_prediction_pods(tmp_path: Path) -> None:
    bucket = [
        {"name": "bucket", "namespace": "flow-images", "literals": ["AWS_REGION=x"]},
        {"name": "serving-sync", "namespace": "flow-images", "literals": ["MODEL_SOURCE=s3://b/models"]},
    ]
    objects = compose(tmp_path / "own", "base", ["bucket-s3", "dask"], bucket)
    job = one(objects, "Job", "predict")["spec"]["template"]
    worker = one(objects, "Deployment", "dask-worker")["spec"]["template"]
    assert worker["metadata"]["labels"] == job["metadata"]["labels"] | {"app.kubernetes.io/name": "dask-worker"}
    for field in ("volumes", "securityContext", "serviceAccountName"):
        assert worker["spec"][field] == job["spec"][field]
    (mine,), (theirs,) = worker["spec"]["containers"], job["spec"]["containers"]
    for field in ("image", "envFrom", "volumeMounts", "resources", "securityContext"):
        assert mine[field] == theirs[field]
