"""Tier (b): the manifests and the client against a real API server, controllers and scheduler; the nodes are fake."""

import copy
import json
import re
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.k8s.builds import K8S, build, compose, one
from tests.k8s.cluster.control_plane import ControlPlane
from tests.k8s.conftest import Deploy, Manifests, Team

pytestmark = pytest.mark.k8s

GPU_NODES = {"gpu-a", "gpu-b"}


@pytest.mark.parametrize("overlay", ["local", "gpu", "bucket-gs", "bucket-s3"])
def test_apply_trains_serves_and_predicts(overlay: str, plane: ControlPlane, team: Team) -> None:
    # Another namespace than the manifests' own, so that tests do not meet.
    objects = build(K8S / "overlays" / overlay)
    for o in objects:
        if "namespace" in o["metadata"]:
            o["metadata"]["namespace"] = team.namespace
    text = yaml.safe_dump_all(o for o in objects if o["kind"] != "Namespace")
    # A template that breaks Pod Security is only warned about.
    plane.kubectl("apply", "--server-side", "--validate=strict", "--warnings-as-errors", "-f", "-", stdin=text)
    team.kubectl("wait", "--for=condition=Available", "deployment/serving", "--timeout=180s")
    for job in ("train", "predict"):
        team.kubectl("wait", "--for=condition=Complete", f"job/{job}", "--timeout=180s")
    nodes = {p["spec"]["nodeName"] for p in team.get("pods", "-l", "app.kubernetes.io/name=serving")}
    assert nodes == ({"plain"} if overlay == "local" else GPU_NODES)
    jobs = team.get("pods", "-l", "app.kubernetes.io/name in (train,predict)")
    assert {p["spec"]["nodeName"] for p in jobs} == {"plain"}
    budget = team.get("poddisruptionbudget", "serving")["status"]
    assert budget["expectedPods"] == len(nodes)
    slices = team.get("endpointslices", "-l", "kubernetes.io/service-name=serving-pods")
    assert sum(len(s["endpoints"] or []) for s in slices) == len(nodes)


def _set(o: Any, path: str, value: object) -> None:
    *way, last = (int(step) if step.isdecimal() else step for step in path.split("."))
    for step in way:
        o = o[step]
    o[last] = value


POD = "spec.template.spec"
REFUSED = [
    ("Deployment", "serving", "spec.replica", 1, "unknown field"),
    ("Deployment", "serving", "spec.template.metadata.labels", {"a": "b"}, "selector"),
    ("Deployment", "serving", f"{POD}.containers.0.resources.limits", {"nvidia.com/gpu": "0.5"}, "must be an integer"),
    ("Deployment", "serving", f"{POD}.containers.0.resources.requests", {"nvidia.com/gpu": "1"}, "Limit must be set"),
    ("Job", "train", f"{POD}.restartPolicy", "OnFailure", "restartPolicy"),
    ("Job", "predict", "spec.completionMode", "NonIndexed", "backoffLimitPerIndex"),
    ("Job", "predict", f"{POD}.containers.0.volumeMounts.0.name", "nowhere", "Not found"),
    ("Job", "predict", "spec.podFailurePolicy.rules.1.onExitCodes.values", [0], "must not be 0"),
    ("PodDisruptionBudget", "serving", "spec.minAvailable", 1, "cannot be both set"),
    ("Service", "serving", "spec.ports.0.targetPort", "no_port", "must contain"),
    ("ConfigMap", "train-options", "data.VERSION", 1, "cannot unmarshal number"),
]


@pytest.mark.parametrize(("kind", "name", "path", "value", "why"), REFUSED)
def test_wrong_manifests_are_refused(kind: str, name: str, path: str, value: object, why: str, team: Team) -> None:
    o = copy.deepcopy(one(build(K8S / "overlays/local"), kind, name))
    _set(o, path, value)
    o["metadata"]["namespace"] = team.namespace
    with pytest.raises(RuntimeError, match=why):
        team.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", "-", stdin=yaml.safe_dump(o))


BREAKS_RESTRICTED = [
    ("spec.hostNetwork", True, "hostNetwork"),
    ("spec.hostPID", True, "hostPID"),
    ("spec.securityContext.runAsUser", 0, "runAsUser=0"),
    ("spec.securityContext.seccompProfile", {"type": "Unconfined"}, "seccompProfile"),
    ("spec.securityContext.runAsNonRoot", False, "runAsNonRoot"),
    ("spec.containers.0.securityContext.allowPrivilegeEscalation", True, "allowPrivilegeEscalation"),
    ("spec.containers.0.securityContext.capabilities", {"add": ["NET_ADMIN"], "drop": ["ALL"]}, "capabilities"),
    ("spec.initContainers.0.securityContext.capabilities", {}, "capabilities"),
    ("spec.volumes.0", {"name": "models", "hostPath": {"path": "/"}}, "hostPath"),
]


def test_pods_that_may_more_than_ours_are_refused(team: Team) -> None:
    template = one(build(K8S / "overlays/bucket-s3"), "Deployment", "serving")["spec"]["template"]
    spec = {key: value for key, value in template["spec"].items() if key != "priorityClassName"}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec}
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "serving"}}
    team.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(account))
    create = ("create", "--dry-run=server", "-f", "-")
    team.kubectl(*create, stdin=yaml.safe_dump(pod))
    for path, value, why in BREAKS_RESTRICTED:
        wrong = copy.deepcopy(pod)
        _set(wrong, path, value)
        with pytest.raises(RuntimeError, match=f'violates PodSecurity "restricted:latest":.*{why}'):
            team.kubectl(*create, stdin=yaml.safe_dump(wrong))


def _kustomization(team: Team, folder: Path, components: Sequence[str], tag: str) -> str:
    """The overlay `local` in the team's namespace with one more component, and another tag of all images."""
    compose(folder, "base", ["single-node", "embedded-server", "network-policies", *components])
    written = yaml.safe_load((folder / "kustomization.yaml").read_text())
    images = [{"name": f"flow-images/{name}", "newTag": tag} for name in ("trainer", "predict", "server")]
    (folder / "kustomization.yaml").write_text(
        yaml.safe_dump({**written, "images": images, "namespace": team.namespace})
    )
    return str(folder)


def test_servers_alone_are_applied_again_and_again_and_upgraded(team: Team, tmp_path: Path) -> None:
    old, new = (_kustomization(team, tmp_path / tag, ["no-jobs"], tag) for tag in ("1.0.0", "2.0.0"))
    for folder in (old, new, old):
        team.kubectl("apply", "-k", folder)
        assert team.kubectl("diff", "-k", folder) == ""  # kubectl ends with 1 where there is a difference
        deployment = team.get("deployment", "serving")
        image = deployment["spec"]["template"]["spec"]["containers"][0]["image"]
        assert image == f"flow-images/server:{Path(folder).name}"
        team.kubectl("apply", "-k", folder)
        assert team.get("deployment", "serving")["metadata"]["generation"] == deployment["metadata"]["generation"]


def test_a_reconciler_may_replace_the_jobs(team: Team, tmp_path: Path) -> None:
    old, new = (_kustomization(team, tmp_path / tag, ["replaced-jobs"], tag) for tag in ("1.0.0", "2.0.0"))
    team.kubectl("apply", "-k", old)
    team.kubectl("wait", "--for=condition=Complete", "job/train", "job/predict", "--timeout=180s")
    before = {job["metadata"]["name"]: job["metadata"]["uid"] for job in team.get("jobs")}
    team.kubectl("apply", "-k", old, "--force")  # as Flux does
    assert {job["metadata"]["name"]: job["metadata"]["uid"] for job in team.get("jobs")} == before
    with pytest.raises(RuntimeError, match="field is immutable"):
        team.kubectl("apply", "-k", new)
    team.kubectl("apply", "-k", new, "--force")
    after = {job["metadata"]["name"]: job["metadata"]["uid"] for job in team.get("jobs")}
    assert after.keys() == before.keys()
    assert not set(after.values()) & set(before.values())
    team.kubectl("wait", "--for=condition=Complete", "job/train", "job/predict", "--timeout=180s")


def test_train_waits_and_shows_the_log(team: Team, run: Deploy) -> None:
    result = run("train", "--version=7", "--epochs=2", "--hub-model=/hub", "--timeout=180", "--", "--seed=1")
    assert result.exit_code == 0, result.output
    assert "job/train-7 complete: 1/1 done" in result.output
    assert "a line of the pod" in result.output
    job = team.get("job", "train-7")
    container = job["spec"]["template"]["spec"]["containers"][0]
    assert container["args"][-1] == "--seed=1"
    own = {variable["name"]: variable.get("value") for variable in container["env"]}
    assert (own["VERSION"], own["EPOCHS"], own["HUB_MODEL"]) == ("7", "2", "/hub")
    # Only what training needs was sent.
    assert team.get("deployments") == []
    ours = ("configmaps", "-l", "app.kubernetes.io/part-of=flow-images")
    before = team.kubectl("get", *ours)
    assert run("train", "--version=8", "--timeout=180").exit_code == 0
    assert len(team.kubectl("get", *ours).splitlines()) == len(before.splitlines()), "each Job leaves ConfigMaps"
    # The same version again is the same Job, and changes nothing.
    uid = job["metadata"]["uid"]
    again = run("train", "--version=7", "--epochs=2", "--hub-model=/hub", "--timeout=180", "--", "--seed=1")
    assert (again.exit_code, team.get("job", "train-7")["metadata"]["uid"]) == (0, uid)
    other = run("train", "--version=7", "--epochs=3", "--timeout=180")
    assert other.exit_code == 1
    assert "can't apply Job train-7: it exists with other values and can't be changed" in other.stderr


def test_predict_makes_as_many_pods_as_shards(team: Team, run: Deploy) -> None:
    result = run("predict", "--shards=3", "--job-name=p", "--input=/images/new", "--timeout=180")
    assert result.exit_code == 0, result.output
    assert "job/p complete: 3/3 done" in result.output
    pods = team.get("pods", "-l", "batch.kubernetes.io/job-name=p")
    assert sorted(p["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"] for p in pods) == list("012")
    assert all("--shard=$(JOB_COMPLETION_INDEX)/3" in p["spec"]["containers"][0]["args"] for p in pods)
    assert sum(f"[{p['metadata']['name']}] a line of the pod" in result.output for p in pods) == 3


@pytest.mark.parametrize(
    ("code", "exit_code", "words"),
    [
        ("1", 1, "ended with exit code 1 (failed, and a rerun won't help"),
        ("2", 2, "ended with exit code 2 (wrong usage"),
        ("3", 3, "ended with exit code 3 (complete, but more images were rejected or failed"),
    ],
)
def test_what_a_rerun_cannot_mend_fails_at_once(
    code: str, exit_code: int, words: str, team: Team, run: Deploy, manifests: Manifests
) -> None:
    folder = manifests("local", "Job", "predict", exit_code=code)
    result = run("predict", f"--manifests={folder}", "--shards=1", "--job-name=p", "--timeout=180")
    assert result.exit_code == exit_code, result.output
    assert words in result.stderr
    assert len(team.get("pods", "-l", "batch.kubernetes.io/job-name=p")) == 1


def test_a_stopped_pod_is_retried(team: Team, run: Deploy, manifests: Manifests) -> None:
    folder = manifests("local", "Job", "predict", exit_code="75")
    assert run("predict", f"--manifests={folder}", "--shards=2", "--job-name=p", "--no-wait").exit_code == 0
    pods = ("pods", "-l", "batch.kubernetes.io/job-name=p")
    team.until("each index has a second pod", lambda: len(team.get(*pods)) >= 4)
    assert not any(c["type"] == "Failed" for c in team.get("job", "p")["status"].get("conditions", []))
    status = run("status")
    assert "ended with exit code 75 (stopped, and is resumed by a retry)" in status.output


def test_running_out_of_memory_is_called_so(run: Deploy, manifests: Manifests) -> None:
    folder = manifests("local", "Job", "train", {"backoffLimit": 0}, exit_code="137", reason="OOMKilled")
    result = run("train", f"--manifests={folder}", "--timeout=180")
    assert result.exit_code == 1
    assert "train ran out of memory and was killed: raise its limit of 8Gi" in result.stderr


def test_an_evicted_pod_does_not_count_as_failed(team: Team, run: Deploy, manifests: Manifests) -> None:
    folder = manifests("local", "Job", "predict", {"backoffLimitPerIndex": 0}, runs_for="15s")
    assert run("predict", f"--manifests={folder}", "--shards=1", "--job-name=p", "--no-wait").exit_code == 0
    pods = ("pods", "-l", "batch.kubernetes.io/job-name=p", "--field-selector=status.phase=Running")
    team.until("it runs", lambda: team.get(*pods))
    pod = team.get(*pods)[0]["metadata"]["name"]
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": pod, "namespace": team.namespace},
    }
    path = f"/api/v1/namespaces/{team.namespace}/pods/{pod}/eviction"
    team.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(eviction))
    team.kubectl("wait", "--for=condition=Complete", "job/p", "--timeout=180s")


def test_an_image_that_cannot_be_pulled_is_named(run: Deploy, manifests: Manifests) -> None:
    folder = manifests("local", "Deployment", "serving", starts="never")
    result = run("serve", f"--manifests={folder}", "--timeout=3")
    assert result.exit_code == 1
    assert f"image flow-images/server:{version('flow-images')} can't be pulled; push it" in result.output
    assert "the time-out has passed" in result.stderr


def test_too_few_gpus_are_named(team: Team, run: Deploy) -> None:
    result = run("serve", "--manifests=gpu", "--replicas=3", "--timeout=15")
    assert result.exit_code == 1
    assert "has no node yet: no node has a free GPU" in result.output
    assert "the time-out has passed: deployment/serving is not there yet" in result.stderr
    team.until("two servers run", lambda: team.get("deployment", "serving")["status"].get("availableReplicas") == 2)


def test_refused_pods_are_explained(team: Team, run: Deploy, manifests: Manifests) -> None:
    root = {"template": {"spec": {"securityContext": {"runAsNonRoot": False}}}}
    folder = manifests("local", "Job", "train")
    kustomization = yaml.safe_load((K8S.parent / folder / "kustomization.yaml").read_text())
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "train"}, "spec": root}
    kustomization["patches"].append({"patch": yaml.safe_dump(job)})
    (K8S.parent / folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    result = run("train", f"--manifests={folder}", "--version=1", "--timeout=180")
    assert result.exit_code == 1
    assert "job/train-1: its pods are refused:" in result.stderr
    assert "runAsNonRoot" in result.stderr
    assert f"`kubectl -n {team.namespace} delete job train-1` removes it" in result.stderr
    # What was said of that Job isn't held against a new one of the same name.
    team.kubectl("delete", "job", "train-1")
    again = run("train", "--version=1", "--timeout=180")
    assert again.exit_code == 0, again.output


def test_a_job_whose_pods_have_no_room_is_waited_for(team: Team, run: Deploy) -> None:
    team.kubectl("create", "quota", "none", "--hard=pods=0")
    early = run("predict", "--shards=2", "--job-name=p", "--timeout=5")
    assert early.exit_code == 1
    assert "job/p: its pods are refused: exceeded quota: none" in early.stdout
    assert early.stdout.count("exceeded quota") == 1
    assert "the time-out has passed: job/p is running (0/2 done, 0 active); job/p goes on in namespace" in early.stderr
    assert f"`kubectl -n {team.namespace} delete job p` removes it" in early.stderr
    assert "its pods are refused: exceeded quota: none" in run("status").output
    team.kubectl("delete", "quota", "none")
    on = run("predict", "--shards=2", "--job-name=p", "--timeout=180")
    assert on.exit_code == 0, on.output
    assert on.stdout.endswith("done: job/p is complete\n")


def test_a_priority_class_may_still_be_made(team: Team, run: Deploy, manifests: Manifests) -> None:
    folder = manifests("local", "Job", "train", {"template": {"spec": {"priorityClassName": "flow-images-later"}}})
    early = run("train", f"--manifests={folder}", "--version=1", "--timeout=5")
    assert early.exit_code == 1
    assert "job/train-1: its pods are refused: no PriorityClass with name flow-images-later was found" in early.stdout
    assert "job/train-1 goes on in namespace" in early.stderr


def test_a_server_without_a_model_is_seen_in_status(team: Team, run: Deploy, manifests: Manifests) -> None:
    folder = manifests("local", "Deployment", "serving", ready="never")
    assert run("serve", f"--manifests={folder}", "--timeout=5").exit_code == 1
    status = run("status").output
    assert "runs, and has no model that can be asked yet, see `kubectl -n" in status
    assert "0 ready" in status


def test_rollback_serves_one_version_and_serve_the_newest_again(team: Team, run: Deploy) -> None:
    def policy() -> str:
        pod = team.get("deployment", "serving")["spec"]["template"]["spec"]
        name = next(v["configMap"]["name"] for v in pod["volumes"] if v["name"] == "config")
        return str(team.get("configmap", name)["data"]["models.config"])

    first = run("serve", "--timeout=180")
    assert first.exit_code == 0, first.output
    assert "latest { num_versions: 2 }" in policy()
    result = run("rollback", "--version=41", "--timeout=180")
    assert result.exit_code == 0, result.output
    assert "specific { versions: 41 }" in policy()
    again = run("serve", "--timeout=180")
    assert again.exit_code == 0, again.output + team.diagnosis()
    assert "latest { num_versions: 2 }" in policy()


def test_options_of_earlier_servers_go_with_the_last_that_may_use_them(team: Team, run: Deploy) -> None:
    def policies() -> list[str]:
        maps = team.get("configmaps", "-l", "app.kubernetes.io/component=serving")
        found = [re.search(r"specific { versions: (\d+) }|latest", m["data"]["models.config"]) for m in maps]
        return sorted(match[1] or "latest" for match in found if match)

    for earlier in (41, 42, 43):
        assert run("rollback", f"--version={earlier}", "--timeout=180").exit_code == 0
    assert run("serve", "--timeout=180").exit_code == 0
    # As many as `revisionHistoryLimit` keeps.
    team.until("the first is forgotten", lambda: len(team.get("replicasets")) == 3)
    assert run("serve", "--timeout=180").exit_code == 0
    assert policies() == ["42", "43", "latest"]


def test_suspend_and_resume(team: Team, run: Deploy, manifests: Manifests) -> None:
    folder = manifests("local", "Job", "predict", runs_for="15s")
    assert run("predict", f"--manifests={folder}", "--shards=1", "--job-name=p", "--no-wait").exit_code == 0
    pods = ("pods", "-l", "batch.kubernetes.io/job-name=p")
    team.until("it runs", lambda: team.get(*pods))
    assert run("suspend", "p").exit_code == 0
    team.until("its pod is gone", lambda: not team.get(*pods))
    assert "job/p suspended: 0/1 done" in run("status").output
    assert run("resume", "p").exit_code == 0
    team.kubectl("wait", "--for=condition=Complete", "job/p", "--timeout=180s")


def test_cleanup_takes_what_is_finished_then_all_but_volumes(team: Team, run: Deploy) -> None:
    assert run("serve", "--timeout=180").exit_code == 0
    assert run("predict", "--shards=1", "--job-name=p", "--timeout=180").exit_code == 0
    assert run("cleanup").output == "job/p deleted\n"
    assert "serving" in team.kubectl("get", "deployments")
    ours = ("-l", "app.kubernetes.io/part-of=flow-images")
    assert team.get("networkpolicies", *ours)
    files = yaml.safe_load((K8S / "files.yaml").read_text())
    files["metadata"]["namespace"] = team.namespace
    team.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(files))
    assert run("cleanup", "--all").exit_code == 0
    kinds = "deployments,services,jobs,configmaps,networkpolicies,serviceaccounts"
    assert team.get(kinds, *ours) == []
    team.until("the pods are gone", lambda: not team.get("pods", *ours))
    assert len(team.get("pvc", *ours)) == 3
    assert run("cleanup").output == f"nothing to delete in namespace {team.namespace}\n"
    assert run("cleanup", "--volumes").exit_code == 0
    team.until("no claims", lambda: team.get("pvc", *ours) == [])


def test_dry_run_changes_nothing(team: Team, run: Deploy) -> None:
    result = run("predict", "--dry-run=server", "--job-name=p")
    assert result.exit_code == 0, result.output
    assert "job/p would be applied" in result.output
    assert team.get("jobs,pvc,serviceaccounts", "-l", "app.kubernetes.io/part-of=flow-images") == []


def test_without_rights_it_says_who_to_ask(plane: ControlPlane, team: Team, run: Deploy) -> None:
    stranger = plane.kubeconfig(f"stranger-{team.namespace}", "stranger")
    result = run("predict", "--job-name=p", kubeconfig=stranger)
    assert result.exit_code == 1
    assert f"you may not apply ServiceAccount predict in namespace {team.namespace}" in result.stderr
    assert "ask its administrator for the role `edit` there" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_rights_in_the_namespace_are_enough(plane: ControlPlane, team: Team, run: Deploy) -> None:
    user = f"editor-{team.namespace}"
    team.kubectl("create", "rolebinding", "editor", "--clusterrole=edit", f"--user={user}")
    # An administrator made what lies above the namespace.
    plane.kubectl("apply", "-f", str(K8S / "components/priority/classes.yaml"))
    result = run("predict", "--job-name=p", "-k", "gpu", "--timeout=180", kubeconfig=plane.kubeconfig(user, user))
    assert result.exit_code == 0, result.output
    assert f"namespace/{team.namespace} is there" in result.output
    assert "priorityclass/flow-images-batch left out" in result.output
    assert "job/p complete: 4/4 done" in result.output


def test_a_cluster_that_does_not_answer(team: Team, run: Deploy, tmp_path: object) -> None:
    config = yaml.safe_load(team.plane.admin.read_text())
    config["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:9"
    dead = team.plane.folder / "dead.conf"
    dead.write_text(yaml.safe_dump(config))
    result = run("status", kubeconfig=dead)
    assert result.exit_code == 75
    assert "no answer from the current context (https://127.0.0.1:9)" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    missing = run("status", "--context=elsewhere")
    assert (missing.exit_code, "no cluster can be reached" in missing.stderr) == (1, True)
