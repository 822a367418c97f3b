"""Manifests as they are built and changed, without a cluster."""

from pathlib import Path

import pytest
import yaml

from k8s.deploy import overlay
from k8s.deploy.cluster_errors import DeployError
from tests.k8s.builds import K8S, compose, kubectl, one
from tests.k8s.command import deploy

POD = "/spec/template/spec"
needs_kubectl = pytest.mark.skipif(kubectl() is None, reason="needs kubectl")


def test_models_config_is_changed_in_place() -> None:
    ours = (K8S / "base/models.config").read_text()
    one_version = overlay.served(ours, version=7)
    assert "model_version_policy { specific { versions: 7 } }" in one_version
    back = overlay.served(one_version, version=None)
    assert "latest { num_versions: 2 }" in back
    assert "specific" not in back
    with pytest.raises(DeployError, match="exactly one model_version_policy"):
        overlay.served(ours + ours, version=7)


@needs_kubectl
def test_without_a_cluster_the_manifests_are_printed() -> None:
    result = deploy("predict", "--dry-run=client", "--shards=5", "-k", "bucket-gs", "-n", "team-a")
    assert result.exit_code == 0, result.output
    assert "--shard=$(JOB_COMPLETION_INDEX)/5" in result.output
    assert "namespace: team-a" in result.output
    assert "kind: Deployment" not in result.output


@needs_kubectl
def test_the_namespace_is_the_manifests_own_unless_one_is_given(tmp_path: Path) -> None:
    compose(tmp_path, "overlays/local", [])
    with (tmp_path / "kustomization.yaml").open("a") as file:
        file.write("namespace: team-b\n")
    for more, namespace in (([], "team-b"), (["-n", "team-c"], "team-c")):
        printed = deploy("serve", "--dry-run=client", "-k", str(tmp_path), *more).stdout
        objects = list(yaml.safe_load_all(printed))
        assert {o["metadata"].get("namespace", namespace) for o in objects} == {namespace}
        assert one(objects, "Namespace", namespace)


@needs_kubectl
def test_a_model_of_another_name_is_asked_for_everywhere() -> None:
    result = deploy("serve", "--model-name=cats", "--dry-run=client", "-k", "bucket-s3")
    assert result.exit_code == 0, result.output
    assert result.output.count("MODEL_NAME: cats") == 1
    assert "dogs" not in result.output


@needs_kubectl
def test_rolled_back_on_s3_the_copy_of_that_version_stays() -> None:
    back = deploy("rollback", "--dry-run=client", "--version=7", "-k", "bucket-s3")
    assert "PINNED_VERSION: '7'" in back.stdout
    assert "MODEL_SOURCE: s3://example-bucket/models\n" in back.stdout
    again = deploy("serve", "--dry-run=client", "-k", "bucket-s3")
    assert "PINNED_VERSION: ''" in again.stdout


@needs_kubectl
def test_wrong_usage_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    missing = deploy("serve", "--dry-run=client", "-k", str(tmp_path))
    assert missing.exit_code == 2
    assert f"no kustomization.yaml in {tmp_path}: give a folder that has one, or one of bucket-gs" in missing.output
    (tmp_path / "kustomization.yaml").write_text("resources: [nowhere.yaml]\n")
    broken = deploy("serve", "--dry-run=client", "-k", str(tmp_path))
    assert broken.exit_code == 2
    assert "don't build" in broken.output
    assert len(broken.output.strip().splitlines()) == 1


@needs_kubectl
@pytest.mark.parametrize(
    ("command", "kind", "name", "gone", "why"),
    [
        ("serve", "ConfigMap", "serving-config", "/data", "has no data.models.config"),
        ("predict", "Job", "predict", f"{POD}/containers/0/args", "Job predict has no spec.template.spec.containers.0"),
    ],
)
def test_manifests_that_lack_what_is_changed(
    command: str, kind: str, name: str, gone: str, why: str, tmp_path: Path
) -> None:
    compose(tmp_path, "overlays/local", [])
    with (tmp_path / "kustomization.yaml").open("a") as file:
        remove = [{"op": "remove", "path": gone}]
        yaml.safe_dump({"patches": [{"target": {"kind": kind, "name": name}, "patch": yaml.safe_dump(remove)}]}, file)
    more = {"serve": "--model-name=cats", "predict": "--shards=2"}[command]
    result = deploy(command, "--dry-run=client", more, "-k", str(tmp_path))
    assert (result.exit_code, why in result.stderr) == (2, True), result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("script", "exit_code", "why"),
    [
        ("exit 9", 2, "ended with 9"),
        ("printf '\\377\\376'", 2, "not a list of objects"),
        ("echo '- a'", 2, "not a list of objects"),
        ("printf 'a:\\n\\tb'", 2, "not a list of objects"),
        ("echo 'kind: A'", 2, "not a list of objects"),
        (None, 1, "can't be run"),
    ],
)
def test_a_kubectl_that_builds_nothing_sensible(
    script: str | None, exit_code: int, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kubectl").write_text("#!/nowhere/sh\n" if script is None else f"#!/bin/sh\n{script}\n")
    (tmp_path / "kubectl").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    result = deploy("serve", "--dry-run=client")
    assert (result.exit_code, why in result.stderr) == (exit_code, True), result.stderr
    assert len(result.stderr.splitlines()) == 1


@needs_kubectl
def test_for_a_server_elsewhere_nothing_waits_for_ours() -> None:
    ours, elsewhere = (
        one(list(yaml.safe_load_all(deploy("predict", "--dry-run=client", *more).stdout)), "Job", "predict")["spec"]
        for more in ([], ["--server=a:8500"])
    )
    (waits,) = ours["template"]["spec"]["initContainers"]
    assert waits["name"] == "wait-for-model"
    assert not elsewhere["template"]["spec"]["initContainers"]
    # A rule of exit codes of a container that the pod has not would be refused.
    assert [*elsewhere["podFailurePolicy"]["rules"]] == ours["podFailurePolicy"]["rules"][:-1]
