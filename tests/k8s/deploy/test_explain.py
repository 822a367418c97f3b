"""What is wrong with a pod or a rollout, in words."""

from typing import Any

import pytest

from k8s.deploy import explain


def _pod(status: dict[str, Any], limit: str = "2Gi") -> dict[str, Any]:
    container = {"name": "predict", "resources": {"limits": {"memory": limit}}}
    return {"metadata": {"name": "p-0-x"}, "spec": {"containers": [container]}, "status": status}


def _ended(code: int, reason: str = "Error") -> dict[str, Any]:
    state = {"terminated": {"exitCode": code, "reason": reason}}
    phase = "Failed" if code else "Succeeded"
    return {"phase": phase, "containerStatuses": [{"name": "predict", "image": "i", "state": state}]}


def _waiting(reason: str, message: str = "because", **more: Any) -> dict[str, Any]:
    state = {"waiting": {"reason": reason, "message": message}}
    return {"phase": "Pending", "containerStatuses": [{"name": "predict", "image": "i:1", "state": state, **more}]}


KEPT_FOR_GPUS = (
    "0/3 nodes are available: 1 Insufficient cpu, 1 Insufficient memory, 2 node(s) had untolerated taint "
    "{nvidia.com/gpu: present}. preemption: 0/3 nodes are available: 1 No preemption victims found."
)


def _unscheduled(message: str) -> dict[str, Any]:
    return {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "message": message}]}


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (_ended(75), "p-0-x: predict ended with exit code 75 (stopped, and is resumed by a retry)"),
        (_ended(1), "p-0-x: predict ended with exit code 1 (failed, and a rerun won't help: its log says why)"),
        (_ended(137, "OOMKilled"), "ran out of memory and was killed: raise its limit of 2Gi"),
        (_ended(139), "ended with exit code 139 (Error)"),
        (_waiting("ImagePullBackOff"), "image i:1 can't be pulled; push it"),
        (_waiting("CreateContainerConfigError", 'configmap "x" not found'), 'can\'t be started: configmap "x"'),
        (
            _waiting("CrashLoopBackOff", lastState=_ended(1)["containerStatuses"][0]["state"]),
            "restarts again and again; predict ended with exit code 1",
        ),
        (_unscheduled("0/3 nodes are available: 3 Insufficient nvidia.com/gpu."), "no node has a free GPU"),
        (_unscheduled("pod has unbound immediate PersistentVolumeClaims"), "its volume isn't there"),
        (_unscheduled("1 node(s) had untolerated taint {a: b}"), "no node fits its selector or taints"),
        (_unscheduled("0/1 nodes are available: 1 Insufficient cpu."), "no node that it fits has enough cpu free"),
        (_unscheduled(KEPT_FOR_GPUS), "no node that it fits has enough cpu and memory free"),
        ({"phase": "Failed", "reason": "Evicted", "message": "low on disk"}, "was evicted from its node: low on disk"),
        ({"phase": "Failed", "reason": "UnexpectedAdmissionError", "message": "no GPU"}, "p-0-x failed: no GPU"),
    ],
)
def test_what_is_wrong_with_a_pod_is_said(status: dict[str, Any], words: str) -> None:
    problem = explain.pod_problem(_pod(status))
    assert problem is not None
    assert words in problem


def test_a_server_that_never_came_is_what_the_pod_ended_of() -> None:
    first = {"name": explain.WAITS, "state": {"terminated": {"exitCode": 75}}}
    pod = _pod({"phase": "Failed", "initContainerStatuses": [first]})
    assert explain.pod_problem(pod) == (
        "p-0-x: no server has loaded the model in time; `flow-images deploy status` says what is in its way"
    )
    assert explain.exit_code(pod) == 75


def test_a_healthy_or_leaving_pod_has_no_problem() -> None:
    state = {"running": {"startedAt": "now"}}
    assert (
        explain.pod_problem(_pod({"phase": "Running", "containerStatuses": [{"name": "predict", "state": state}]}))
        is None
    )
    assert explain.pod_problem(_pod(_ended(0, "Completed"))) is None
    leaving = _pod(_ended(143))
    leaving["metadata"]["deletionTimestamp"] = "now"
    assert explain.pod_problem(leaving) is None


def test_a_server_without_a_model_is_pointed_to_its_log() -> None:
    status: dict[str, Any] = {"name": "predict", "ready": False, "state": {"running": {}}}
    pod = _pod({"phase": "Running", "containerStatuses": [status]})
    assert explain.pod_problem(pod) is None  # Nobody asks it.
    pod["spec"]["containers"][0]["readinessProbe"] = {}
    pod["metadata"]["namespace"] = "pets"
    told = "p-0-x runs, and has no model that can be asked yet, see `kubectl -n pets logs p-0-x -c predict`"
    assert explain.pod_problem(pod) == told
    status["ready"] = True
    assert explain.pod_problem(pod) is None


def test_what_refuses_pods_may_pass_or_not() -> None:
    def refused(why: str) -> str:
        said = {"reason": "FailedCreate", "message": f'Error creating: pods "p-0-x7fk2" is forbidden: {why}'}
        return str(explain.refused_pods([said]))

    quota = refused("exceeded quota: small, requested: pods=1, used: pods=2, limited: pods=2")
    assert quota.startswith("its pods are refused: exceeded quota: small")
    assert explain.may_pass(quota)
    assert explain.may_pass(refused("no PriorityClass with name flow-images-batch was found"))
    assert not explain.may_pass(refused('violates PodSecurity "restricted:latest": runAsNonRoot != true'))
    assert not explain.may_pass(refused("failed quota: small: must specify limits.cpu for: predict"))


def test_a_job_lacks_pods_as_long_as_it_has_fewer_than_it_could() -> None:
    def lacks(**status: Any) -> bool:
        return explain.lacks_pods({"spec": {"completions": 4, "parallelism": 2}, "status": status})

    assert lacks()
    assert lacks(active=1, succeeded=2)
    assert not lacks(active=2)
    assert not lacks(active=1, succeeded=3)
    assert not lacks(conditions=[{"type": "Failed", "status": "True"}])


def test_a_pod_that_hangs_is_explained_by_its_last_warning() -> None:
    events = [
        {"type": "Warning", "message": "old"},
        {"type": "Warning", "message": "can't mount"},
        {"type": "Normal", "message": "pulled"},
    ]
    assert explain.pod_problem(_pod({"phase": "Pending"}), events) == "p-0-x does not start: can't mount"
    assert explain.pod_problem(_pod({"phase": "Pending"})) is None


def test_the_verdict_of_a_job_comes_before_what_was_retried() -> None:
    first, verdict, last = (_pod(_ended(code)) for code in (137, 3, 143))
    whole = _pod(_ended(0, "Completed"))
    assert explain.decisive([first, verdict, last, whole]) is verdict
    assert explain.decisive([first, last, whole]) is last
    assert explain.decisive([whole]) is None
    assert [explain.exit_code(pod) for pod in (first, verdict, whole, _pod({}))] == [137, 3, 0, 0]


def test_a_rollout_that_cannot_end_by_itself_says_why() -> None:
    def problem(generation: int, **condition: str) -> str | None:
        status = {"observedGeneration": 2, "conditions": [{"message": "because", **condition}]}
        return explain.rollout_problem({"metadata": {"generation": generation}, "status": status})

    assert problem(2, type="ReplicaFailure", status="True") == "its pods are refused: because"
    assert problem(2, type="Progressing", status="False") == "because"
    assert problem(2, type="Progressing", status="True") is None
    assert problem(3, type="Progressing", status="False") is None  # That was about the change before this one.


def test_a_rollout_is_done_when_only_new_pods_are_left() -> None:
    def state(generation: int, **status: int) -> bool:
        spec = {"replicas": 2}
        seen = {"observedGeneration": 2, **status}
        return explain.rollout_state({"metadata": {"generation": generation}, "spec": spec, "status": seen})[0]

    assert state(2, updatedReplicas=2, availableReplicas=2, replicas=2)
    assert not state(2, updatedReplicas=2, availableReplicas=2, replicas=3)
    assert not state(2, updatedReplicas=1, availableReplicas=2, replicas=2)
    assert not state(3, updatedReplicas=2, availableReplicas=2, replicas=2)


def test_a_pod_that_waits_for_a_container_says_for_which() -> None:
    running: list[dict[str, Any]] = [{"name": name, "state": {"running": {}}} for name in ("sync", "wait-for-model")]
    pod = _pod({"phase": "Pending", "initContainerStatuses": running})
    pod["spec"]["initContainers"] = [{"name": "sync", "restartPolicy": "Always"}, {"name": "wait-for-model"}]
    told = "p-0-x has not begun: wait-for-model comes first, see `kubectl logs p-0-x -c wait-for-model`"
    assert explain.pod_problem(pod) == told
