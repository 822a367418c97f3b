"""Why a pod does not run or has ended, in words; from the API's own objects as plain dicts."""

from collections.abc import Iterable, Sequence
from typing import Any

Object = dict[str, Any]

EXIT_CODES = {
    1: "failed, and a rerun won't help: its log says why",
    2: "wrong usage: its log names the option",
    3: "complete, but more pictures were rejected or failed than allowed: see rejected.csv and failed.csv",
    75: "stopped, and is resumed by a retry",
    130: "interrupted, and is resumed by a retry",
    137: "killed from outside; is retried",
    143: "interrupted, and is resumed by a retry",
}


def condition(obj: Object, kind: str) -> Object | None:
    """The status condition of this type, if it is true."""
    for each in obj.get("status", {}).get("conditions") or []:
        if each["type"] == kind and each["status"] == "True":
            return dict(each)
    return None


def pod_problem(pod: Object, events: Iterable[Object] = ()) -> str | None:
    """One sentence on what is wrong with a pod, or None."""
    name, status = pod["metadata"]["name"], pod.get("status", {})
    if pod["metadata"].get("deletionTimestamp"):
        return None
    if status.get("reason") == "Evicted":
        return f"{name} was evicted from its node: {status.get('message', '')}".rstrip(": ")
    for each in status.get("conditions") or []:
        if each["type"] == "PodScheduled" and each["status"] == "False":
            return f"{name} has no node yet: {_scheduling(each.get('message', ''))}"
    for each in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        if problem := _container_problem(pod, each):
            return f"{name}: {problem}"
    if status.get("phase") == "Pending":
        warnings = [e["message"] for e in events if e.get("type") == "Warning"]
        return f"{name} does not start: {warnings[-1]}" if warnings else None
    return None


def exit_code(pods: Iterable[Object]) -> int | None:
    """The exit code of the container that ended a failed Job: a verdict (1, 2, 3) before one that is retried."""
    codes = [
        terminated["exitCode"]
        for pod in pods
        for each in pod.get("status", {}).get("containerStatuses") or []
        if (terminated := each.get("state", {}).get("terminated")) and terminated["exitCode"]
    ]
    return min(codes, default=None)


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


def refused_pods(events: Sequence[Object]) -> str | None:
    """What the API server said to a controller that could not make a pod."""
    for event in reversed(events):
        if event.get("reason") == "FailedCreate":
            return f"its pods are refused: {event['message']}"
    return None


def _scheduling(message: str) -> str:
    if "nvidia.com/gpu" in message:
        return f"no node has a free GPU ({message})"
    if "PersistentVolumeClaim" in message:
        return f"its volume isn't there; `kubectl describe pvc` says why ({message})"
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
    words = EXIT_CODES.get(code, terminated.get("message") or terminated.get("reason") or "unknown")
    return f"{name} ended with exit code {code} ({words})"


def _memory_limit(pod: Object, name: str) -> str:
    spec = pod.get("spec", {})
    for container in [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]:
        if container["name"] == name:
            return str(container.get("resources", {}).get("limits", {}).get("memory", "the node"))
    return "the node"
