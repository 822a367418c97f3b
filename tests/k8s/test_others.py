"""Tier (b): the client among other people's objects and pods, on a real API server; and its end by a signal."""

import contextlib
import copy
import json
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from k8s.deploy import changes
from k8s.deploy.cluster import Cluster
from k8s.deploy.cluster_errors import Foreign
from tests.k8s.builds import K8S, Object, build, compose, one
from tests.k8s.cluster.control_plane import ControlPlane
from tests.k8s.command import deploy
from tests.k8s.conftest import Deploy, Manifests, Team

pytestmark = pytest.mark.k8s

SHOP = {"app": "shop"}
EVERYTHING = "deployments,services,jobs,configmaps,networkpolicies,serviceaccounts,poddisruptionbudgets,pvc,pods"
OURS = ("-l", "app.kubernetes.io/part-of=flow-images")


def _pod(name: str, labels: dict[str, str]) -> Object:
    pod = yaml.safe_load((K8S / "files.yaml").read_text())
    pod["metadata"] = {"name": name, "labels": labels}
    pod["spec"]["containers"][0].pop("volumeMounts")
    pod["spec"].pop("volumes")
    return dict(pod)


def _foreign(kind: str, name: str) -> Object:
    """What a shop may have under a name that is one of ours, too."""
    template = {"metadata": {"labels": SHOP}, "spec": {**_pod("x", {})["spec"], "restartPolicy": "Always"}}
    once = {"metadata": {"labels": SHOP}, "spec": {**_pod("x", {})["spec"], "restartPolicy": "Never"}}
    bodies: dict[str, tuple[str, Object]] = {
        "Service": ("v1", {"spec": {"selector": SHOP, "ports": [{"port": 80}]}}),
        "ServiceAccount": ("v1", {}),
        "ConfigMap": ("v1", {"data": {"price": "7"}}),
        "PersistentVolumeClaim": (
            "v1",
            {"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}},
        ),
        "Deployment": (
            "apps/v1",
            {"spec": {"replicas": 0, "selector": {"matchLabels": SHOP}, "template": template}},
        ),
        "Job": ("batch/v1", {"spec": {"suspend": True, "template": once}}),
        "PodDisruptionBudget": ("policy/v1", {"spec": {"maxUnavailable": 1, "selector": {"matchLabels": SHOP}}}),
        "NetworkPolicy": ("networking.k8s.io/v1", {"spec": {"podSelector": {"matchLabels": SHOP}}}),
        "PriorityClass": ("scheduling.k8s.io/v1", {"value": 7}),
    }
    version, body = bodies[kind]
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "labels": SHOP}, **copy.deepcopy(body)}


def _applied(team: Team, *objects: Object, by: str | None = None) -> None:
    """Sends them as kubectl does by itself, or under a field manager's name."""
    how = ["apply"] if by is None else ["apply", "--server-side", "--force-conflicts", f"--field-manager={by}"]
    team.kubectl(*how, "-f", "-", stdin=yaml.safe_dump_all(objects))


def _in(team: Team, objects: list[Object]) -> list[Object]:
    """The objects of a namespace's manifests, moved to the team's."""
    moved = copy.deepcopy([o for o in objects if o["kind"] not in ("Namespace", "PriorityClass")])
    for o in moved:
        o["metadata"]["namespace"] = team.namespace
    return moved


def _fixed(obj: Object) -> Object:
    """What a controller doesn't change by itself."""
    return {key: obj["metadata"].get(key) for key in ("uid", "labels", "annotations", "generation")} | {
        key: obj.get(key) for key in ("spec", "data") if obj["kind"] != "PersistentVolumeClaim"
    }


def _selected(team: Team, selector: Object) -> set[str]:
    """The pods that the API server finds by a policy's selector."""
    words = [f"{key}={value}" for key, value in selector.get("matchLabels", {}).items()]
    for e in selector.get("matchExpressions", []):
        assert e["operator"] == "NotIn"
        words.append(f"{e['key']} notin ({','.join(e['values'])})")
    return {pod["metadata"]["name"] for pod in team.get("pods", *(["-l", ",".join(words)] if words else []))}


def test_in_a_namespace_of_others_only_our_pods_are_selected(team: Team, run: Deploy) -> None:
    others = {"shop": SHOP, "twin": {"app.kubernetes.io/name": "serving"}, "bare": {}}
    _applied(team, *(_pod(name, labels) for name, labels in others.items()))
    # An earlier version of ours shut the whole namespace; the next apply corrects that.
    old = copy.deepcopy(one(build(K8S / "overlays/local"), "NetworkPolicy", "default-deny"))
    old["metadata"]["namespace"] = team.namespace
    old["spec"]["podSelector"] = {}
    _applied(team, old, by="flow-images")
    served = run("serve", "--timeout=180")
    assert served.exit_code == 0, served.output
    assert "networkpolicy/other-pods left out: it is for pods that aren't ours" in served.stdout
    policies = team.get("networkpolicies")
    assert {"default-deny", "dns", "serving"} <= {p["metadata"]["name"] for p in policies}
    ours = {p["metadata"]["name"] for p in team.get("pods", *OURS)}
    assert ours
    for policy in policies:
        assert _selected(team, policy["spec"]["podSelector"]) <= ours, policy["metadata"]["name"]
    assert _selected(team, one(policies, "NetworkPolicy", "default-deny")["spec"]["podSelector"]) == ours
    for service in team.get("services", *OURS):
        assert _selected(team, {"matchLabels": service["spec"]["selector"]}) == ours
    assert _selected(team, team.get("poddisruptionbudget", "serving")["spec"]["selector"]) == ours
    assert run("cleanup", "--all").exit_code == 0
    assert team.get("networkpolicies") == []
    assert {p["metadata"]["name"] for p in team.get("pods")} >= set(others)


def test_a_namespace_that_we_make_is_shut_for_others_and_left_empty(plane: ControlPlane) -> None:
    name = f"own-{uuid.uuid4().hex[:6]}"
    target = [f"--kubeconfig={plane.admin}", f"--namespace={name}"]
    own = Team(plane, name)
    try:
        assert deploy("serve", *target, "--no-wait").exit_code == 0
        _applied(own, _pod("shop", SHOP))
        wide = own.get("networkpolicy", "other-pods")["spec"]["podSelector"]
        assert _selected(own, wide) == {"shop"}
        # A second time it is known by its mark, and left as it is.
        again = deploy("serve", *target, "--no-wait")
        assert f"namespace/{name} is there" in again.stdout
        assert "networkpolicy/other-pods applied" in again.stdout
        assert deploy("cleanup", *target, "--all", "--volumes").exit_code == 0
        assert own.get("networkpolicies,services,deployments") == []
    finally:
        plane.kubectl("delete", "namespace", name, "--wait=false")


def test_cleanup_leaves_nothing_once_nothing_runs(team: Team, run: Deploy) -> None:
    assert run("predict", "--shards=1", "--job-name=p", "--server=a:8500", "--timeout=180").exit_code == 0
    assert team.get("networkpolicies", *OURS)
    assert run("cleanup").exit_code == 0
    assert team.get(EVERYTHING.replace(",pvc,pods", ""), *OURS) == []
    assert len(team.get("pvc", *OURS)) == 3


TAKEN = [
    ("serve", "Service", "serving"),
    ("serve", "Service", "serving-pods"),
    ("serve", "Deployment", "serving"),
    ("serve", "ServiceAccount", "serving"),
    ("serve", "PodDisruptionBudget", "serving"),
    ("serve", "NetworkPolicy", "dns"),
    ("serve", "PersistentVolumeClaim", "models"),
    ("predict", "Job", "p"),
    ("predict", "PersistentVolumeClaim", "output"),
    ("train", "Job", "train-7"),
    ("rollback", "Service", "serving"),
]


def test_what_is_somebody_elses_is_neither_changed_nor_deleted(team: Team, run: Deploy) -> None:
    more = {
        "serve": [],
        "predict": ["--job-name=p"],
        "train": ["--version=7"],
        "rollback": ["--version=7"],
    }
    for command, kind, name in TAKEN:
        _applied(team, _foreign(kind, name))
        before = _fixed(team.get(kind, name))
        for dry_run in ("server", "none"):
            result = run(command, "--no-wait", f"--dry-run={dry_run}", *more[command])
            assert result.exit_code == 2, f"{kind} {name}: {result.output}"
            assert f"{kind} {name} in namespace {team.namespace} is somebody else's (labels app=shop" in result.stderr
            assert re.search(r"managed by [\w, -]*\bkubectl-client-side-apply", result.stderr)
            assert "Nothing was changed" in result.stderr
            assert len(result.stderr.splitlines()) == 1
            assert result.stdout == ""
        assert team.get(EVERYTHING, *OURS) == []
        assert run("cleanup", "--all", "--volumes").exit_code == 0
        if kind == "Job":
            for how in ("suspend", "resume"):
                refused = run(how, name)
                assert (refused.exit_code, "is somebody else's" in refused.stderr) == (2, True)
        assert _fixed(team.get(kind, name)) == before, f"{kind} {name}"
        team.kubectl("delete", kind, name, "--wait=false")


def test_a_priority_class_of_others_is_left_alone(plane: ControlPlane, team: Team, run: Deploy, tmp_path: Path) -> None:
    name = f"class-{team.namespace}"
    compose(tmp_path, "overlays/local", [])
    wanted = {**_foreign("PriorityClass", name), "value": 9}
    wanted["metadata"]["labels"] = {"app.kubernetes.io/part-of": "flow-images"}
    (tmp_path / "class.yaml").write_text(yaml.safe_dump(wanted))
    kustomization = yaml.safe_load((tmp_path / "kustomization.yaml").read_text())
    kustomization["resources"].append("class.yaml")
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    plane.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(_foreign("PriorityClass", name)))
    try:
        refused = run("serve", "-k", str(tmp_path), "--no-wait")
        assert refused.exit_code == 2
        assert f"PriorityClass {name} is somebody else's (labels app=shop" in refused.stderr
        assert team.get(EVERYTHING, *OURS) == []
        assert json.loads(plane.kubectl("get", "priorityclass", name, "-o", "json"))["value"] == 7
    finally:
        plane.kubectl("delete", "priorityclass", name)


def test_our_label_alone_does_not_make_it_ours(team: Team, run: Deploy) -> None:
    service = _foreign("Service", "serving")
    service["metadata"]["labels"] = {"app.kubernetes.io/part-of": "flow-images"}
    _applied(team, service, by="helm")
    # Applied by the shop, and rewritten by an older client of ours.
    budget = _foreign("PodDisruptionBudget", "serving")
    _applied(team, budget)
    budget["metadata"] |= {"labels": {"app.kubernetes.io/part-of": "flow-images"}, "namespace": team.namespace}
    cluster = Cluster(context=None, kubeconfig=str(team.plane.admin), namespace=team.namespace)
    cluster.apply(budget, force=True)
    assert run("predict", "--no-wait", "--job-name=p").exit_code == 0
    for command in (["serve", "--no-wait"], ["cleanup", "--all"]):
        refused = run(*command)
        assert refused.exit_code == 2, refused.output
        assert "Service serving" in refused.stderr
        assert "managed by helm" in refused.stderr
        assert "PodDisruptionBudget serving" in refused.stderr
        assert "it has our label, but not from us" in refused.stderr
    assert team.get("job", "p")
    assert team.get("poddisruptionbudget", "serving")
    assert team.get("service", "serving")["spec"]["selector"] == SHOP


def test_objects_of_an_older_release_and_of_kubectl_go_on(team: Team, run: Deploy) -> None:
    old = _in(team, build(K8S / "overlays/local"))
    for o in old:
        if o["kind"] in ("Service", "PodDisruptionBudget"):  # As they were before.
            selector = o["spec"]["selector"]
            selector.get("matchLabels", selector).pop("app.kubernetes.io/part-of")
    # Half of it was sent by the client, half by kubectl.
    wanted = [o for o in old if o["metadata"]["labels"].get("app.kubernetes.io/component") in ("serving", "storage")]
    _applied(team, *wanted[::2], by="flow-images")
    _applied(team, *wanted[1::2])
    team.kubectl("scale", "deployment/serving", "--replicas=3")
    team.kubectl("annotate", "service", "serving", "note=kept")
    result = run("serve", "--replicas=2", "--timeout=180")
    assert result.exit_code == 0, result.output
    assert team.get("deployment", "serving")["spec"]["replicas"] == 2
    service = team.get("service", "serving")
    assert service["spec"]["selector"]["app.kubernetes.io/part-of"] == "flow-images"
    assert service["metadata"]["annotations"]["note"] == "kept"
    assert run("cleanup", "--all", "--volumes").exit_code == 0
    assert team.get("services,deployments,networkpolicies", *OURS) == []


def test_a_field_that_a_stranger_manages_is_not_taken_over(team: Team, run: Deploy) -> None:
    assert run("serve", "--timeout=180").exit_code == 0
    taken = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "serving"}, "spec": {"replicas": 3}}
    _applied(team, taken, by="ops")
    refused = run("serve", "--replicas=2", "--no-wait")
    assert refused.exit_code == 2
    assert "of Deployment serving, spec.replicas is managed by ops" in refused.stderr
    assert team.get("deployment", "serving")["spec"]["replicas"] == 3


class _Late(Cluster):
    """Looks at the cluster before somebody else makes an object there."""

    blind = 1

    def read(self, manifest: Object) -> Object | None:
        if manifest["kind"] == "Service" and self.blind:
            self.blind -= 1
            return None
        return super().read(manifest)


def test_what_others_do_between_the_look_and_the_change_is_respected(team: Team, run: Deploy) -> None:
    cluster = _Late(context=None, kubeconfig=str(team.plane.admin), namespace=team.namespace)
    _applied(team, _foreign("Service", "serving"))
    ours = [one(_in(team, build(K8S / "overlays/local")), "Service", "serving")]
    with pytest.raises(Foreign, match="it was made by others just now, and was left as it is"):
        list(changes.send(cluster, changes.plan(cluster, ours), dry_run=False))
    assert team.get("service", "serving")["spec"]["selector"] == SHOP
    team.kubectl("delete", "service", "serving")

    list(changes.send(cluster, changes.plan(cluster, ours), dry_run=False))
    stale = cluster.get("v1", "Service", "serving")
    team.kubectl("label", "service", "serving", "app.kubernetes.io/part-of-")
    with pytest.raises(Foreign, match="somebody else's"):
        changes.delete(cluster, "v1", "Service", stale)
    # Made anew by somebody else, under the same name.
    team.kubectl("delete", "service", "serving")
    _applied(team, _foreign("Service", "serving"))
    with pytest.raises(Foreign, match="somebody else's"):
        changes.delete(cluster, "v1", "Service", stale)
    assert team.get("service", "serving")["spec"]["selector"] == SHOP
    team.kubectl("delete", "service", "serving")

    # A change that leaves it ours is not an obstacle, and what is gone is gone.
    list(changes.send(cluster, changes.plan(cluster, ours), dry_run=False))
    stale = cluster.get("v1", "Service", "serving")
    team.kubectl("annotate", "service", "serving", "note=new")
    changes.delete(cluster, "v1", "Service", stale)
    changes.delete(cluster, "v1", "Service", stale)
    assert team.get("services", *OURS) == []


@contextlib.contextmanager
def _started(team: Team, *words: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "flow_images", "deploy", words[0], f"--kubeconfig={team.plane.admin}"]
    command += [f"--namespace={team.namespace}", *words[1:]]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=K8S.parent
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _stopped(process: Any, after: str, number: int) -> tuple[int, str]:
    """(exit code, stderr) of a process that gets a signal when it has said something."""
    for line in process.stdout:
        if after in line:
            break
    process.send_signal(number)
    _, said = process.communicate(timeout=120)
    return process.returncode, said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("words", "annotations", "after", "remains"),
    [
        (["predict", "--job-name=p"], {"runs_for": "60s"}, "serviceaccount/predict applied", "stays in namespace"),
        (["predict", "--job-name=p"], {"runs_for": "60s"}, "a line of the pod", "job/p goes on in namespace"),
        (["train", "--version=7"], {"runs_for": "60s"}, "job/train-7 running", "with --version=7 waits on"),
        (["serve"], {"starts": "never"}, "deployment/serving:", "deployment/serving goes on in namespace"),
    ],
)
def test_interrupted_it_says_what_remains(
    words: list[str],
    annotations: dict[str, str],
    after: str,
    remains: str,
    number: int,
    team: Team,
    manifests: Manifests,
) -> None:
    kind, name = ("Deployment", "serving") if words[0] == "serve" else ("Job", words[0])
    folder = manifests("local", kind, name, **annotations)
    with _started(team, *words, f"--manifests={folder}") as process:
        code, said = _stopped(process, after, number)
    assert code == 128 + number, said
    assert len(said.splitlines()) == 1
    assert said.startswith("flow-images deploy: interrupted: ")
    assert remains in said
    assert f"--namespace={team.namespace}" in said
