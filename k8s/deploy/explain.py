"""Says in words why a pod does not run or has ended, from the API's own objects as plain dicts."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from serving.errors import EXIT_RESUMABLE

Object = dict[str, Any]

EXIT_CODES = {
    1: "failed, and a rerun won't help: its log says why",
    2: "wrong usage: its log names the option",
    3: "complete, but more images were rejected or failed than allowed: see rejected.csv and failed.csv",
    4: "trained, but the model failed a gate and is not published: its log says which",
    75: "stopped, and is resumed by a retry",
    130: "interrupted, and is resumed by a retry",
    137: "killed from outside; is retried",
    143: "interrupted, and is resumed by a retry",
}
FINAL_EXIT_CODES = (1, 2, 3, 4)
"""Exit codes that a retry would not change, and that end a Job at once."""
WAITS = "wait-for-model"
"""The container of a prediction pod that waits for a server; when it gives up, the Job fails."""


def condition(obj: Object, kind: str, status: str = "True") -> Object | None:
    """The condition of this type, if it has this status."""
    for each in obj.get("status", {}).get("conditions") or []:
        if each["type"] == kind and each["status"] == status:
            return dict(each)
    return None


def pod_problem(pod: Object, events: Iterable[Object] = ()) -> str | None:
    """One sentence on what is wrong with a pod, or None."""
    name, status = pod["metadata"]["name"], pod.get("status", {})
    if pod["metadata"].get("deletionTimestamp"):
        return None
    if status.get("reason") == "Evicted":
        return f"{name} was evicted from its node: {status.get('message', '')}".rstrip(": ")
    if unscheduled := condition(pod, "PodScheduled", "False"):
        return f"{name} has no node yet: {_scheduling(unscheduled.get('message', ''))}"
    for each in _statuses(pod):
        if problem := _container_problem(pod, each):
            return f"{name}: {problem}"
    if status.get("phase") == "Failed":  # Without a container that says why: e.g. the node had no room after all.
        return f"{name} failed: {status.get('message') or status.get('reason') or 'its node does not say why'}"
    if status.get("phase") == "Pending":
        warnings = [e.get("message", "") for e in events if e.get("type") == "Warning"]
        return f"{name} does not start: {warnings[-1]}" if warnings else _runs_first(pod)
    return _not_ready(pod)


def exit_code(pod: Object) -> int:
    """What the pod's containers ended with, 0 if none failed."""
    states = [each.get("state", {}) for each in _statuses(pod)]
    return max((state["terminated"]["exitCode"] for state in states if "terminated" in state), default=0)


def decisive(pods: Iterable[Object]) -> Object | None:
    """The pod that says why its Job failed: one with a final exit code, else the last one that failed."""
    failed = [pod for pod in pods if pod.get("status", {}).get("phase") == "Failed"]
    final = [pod for pod in failed if exit_code(pod) in FINAL_EXIT_CODES]
    return next(reversed(final or failed), None)


def job_state(job: Object) -> tuple[str, str]:
    """("running" | "complete" | "failed" | "suspended", progress or reason)."""
    status, spec = job.get("status", {}), job["spec"]
    if failed := condition(job, "Failed"):
        return "failed", str(failed.get("message") or failed.get("reason") or "")
    wanted = spec.get("completions", 1)
    done = f"{status.get('succeeded') or 0}/{wanted} done"
    if condition(job, "Complete"):
        return "complete", done
    if spec.get("suspend"):
        return "suspended", done
    failures = status.get("failed") or 0
    more = f", {failures} failed so far" if failures else ""
    return "running", f"{done}, {status.get('active') or 0} active{more}"


def rollout_state(deployment: Object) -> tuple[bool, str]:
    """(all pods are new and ready, progress)."""
    spec, status = deployment["spec"], deployment.get("status", {})
    wanted = spec.get("replicas", 1)
    counts = [status.get(k) or 0 for k in ("updatedReplicas", "availableReplicas", "replicas")]
    seen = (status.get("observedGeneration") or 0) >= deployment["metadata"].get("generation", 0)
    done = seen and counts == [wanted] * 3
    return done, f"{counts[0]}/{wanted} new, {counts[1]} ready, {counts[2]} in all"


def lacks_pods(job: Object) -> bool:
    """Whether a Job that runs has fewer pods than it would have if none were refused."""
    spec, status = job["spec"], job.get("status", {})
    left = spec.get("completions", 1) - (status.get("succeeded") or 0)
    return job_state(job)[0] == "running" and (status.get("active") or 0) < min(spec.get("parallelism", 1), left)


def may_pass(refusal: str) -> bool:
    """Whether pods that are refused now may be taken later, without a change of what was applied."""
    return "exceeded quota" in refusal or "no PriorityClass" in refusal


def rollout_problem(deployment: Object) -> str | None:
    """Why a rollout can't come to its end by itself, or None."""
    if (deployment.get("status", {}).get("observedGeneration") or 0) < deployment["metadata"].get("generation", 0):
        return None  # What stands there is about its last change.
    if refused := condition(deployment, "ReplicaFailure"):
        return f"its pods are refused: {_reason(refused)}"
    progress = condition(deployment, "Progressing", "False")
    return _reason(progress) if progress else None


def refused_pods(events: Sequence[Object]) -> str | None:
    """The API server's reason why a controller could not make a pod, or None."""
    for event in reversed(events):
        if event.get("reason") == "FailedCreate":
            return f"its pods are refused: {_reason(event)}"
    return None


def _reason(said: Object) -> str:
    text = str(said.get("message") or said.get("reason") or "the cluster does not say why")
    # Each try makes up a new name for the pod, and would be news.
    return re.sub(r'^(Error creating: )?pods "[^"]*" is forbidden: ', "", text)


def _runs_first(pod: Object) -> str | None:
    beside = {c["name"] for c in pod["spec"].get("initContainers") or [] if c.get("restartPolicy") == "Always"}
    for each in pod.get("status", {}).get("initContainerStatuses") or []:
        if "running" in each.get("state", {}) and each["name"] not in beside:
            name = pod["metadata"]["name"]
            return f"{name} has not begun: {each['name']} comes first, see {_log(pod, each['name'])}"
    return None


def _not_ready(pod: Object) -> str | None:
    asked = {c["name"] for c in pod["spec"].get("containers") or [] if "readinessProbe" in c}
    for each in pod.get("status", {}).get("containerStatuses") or []:
        if each["name"] in asked and "running" in each.get("state", {}) and not each.get("ready"):
            name = pod["metadata"]["name"]
            return f"{name} runs, and has no model that can be asked yet, see {_log(pod, each['name'])}"
    return None


def _log(pod: Object, container: str) -> str:
    name, namespace = pod["metadata"]["name"], pod["metadata"].get("namespace")
    return f"`kubectl {f'-n {namespace} ' if namespace else ''}logs {name} -c {container}`"


def _scheduling(message: str) -> str:
    if "PersistentVolumeClaim" in message:
        return f"its volume isn't there; `kubectl describe pvc` says why ({message})"
    # What nodes lack comes first: other nodes of the same cluster may be kept for GPUs by a taint.
    lacking = sorted(set(re.findall(r"Insufficient ([\w./-]*\w)", message)))
    if "nvidia.com/gpu" in lacking:
        return f"no node has a free GPU ({message})"
    if lacking:
        return f"no node that it fits has enough {' and '.join(lacking)} free ({message})"
    if "node affinity/selector" in message or "untolerated taint" in message:
        return f"no node fits its selector or taints ({message})"
    return message


def _container_problem(pod: Object, status: Object) -> str | None:
    name, state = status["name"], status.get("state", {})
    if terminated := state.get("terminated"):
        return _ended(pod, name, terminated)
    waiting = state.get("waiting") or {}
    reason, message = waiting.get("reason", ""), waiting.get("message", "")
    if reason in ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"):
        return f"image {status['image']} can't be pulled; push it, or name your registry in the overlay ({message})"
    if reason == "CrashLoopBackOff":
        last = status.get("lastState", {}).get("terminated")
        return f"restarts again and again; {_ended(pod, name, last) if last else message}"
    if reason in ("CreateContainerConfigError", "CreateContainerError", "RunContainerError"):
        return f"{name} can't be started: {message}"
    return None


def _ended(pod: Object, name: str, terminated: Object) -> str | None:
    code = terminated["exitCode"]
    if code == 0:
        return None
    if terminated.get("reason") == "OOMKilled":
        limit = _memory_limit(pod, name)
        return f"{name} ran out of memory and was killed: raise its limit of {limit} (resources.limits.memory)"
    if (name, code) == (WAITS, EXIT_RESUMABLE):
        return "no server has loaded the model in time; `flow-images deploy status` says what is in its way"
    words = EXIT_CODES.get(code, terminated.get("message") or terminated.get("reason") or "unknown")
    return f"{name} ended with exit code {code} ({words})"


def _statuses(pod: Object) -> list[Object]:
    status = pod.get("status", {})
    return [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]


def _memory_limit(pod: Object, name: str) -> str:
    spec = pod.get("spec", {})
    for container in [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]:
        if container["name"] == name:
            return str(container.get("resources", {}).get("limits", {}).get("memory", "the node"))
    return "the node"
