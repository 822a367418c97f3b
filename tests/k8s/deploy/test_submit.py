"""What the client makes of the manifests for each Job: values that are the Job's own."""

from typing import Any

import pytest
import yaml

from tests.k8s.builds import Object, kubectl, one
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
    result = deploy(*arguments, "--dry-run=client")
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
