"""Waits for Jobs and rollouts, and tells what happens meanwhile: progress, logs, and what is in the way."""

import threading
import time
from collections.abc import Callable, Iterable

from k8s import explain
from k8s.cluster import Cluster, Object
from k8s.errors import DeployError

POLL_S = 1.0
"""Seconds between two looks at the cluster."""
LOGS_AT_ONCE = 20
"""How many logs are followed together; a Job of a thousand pods would be unreadable anyway."""
EVENTS_AT_ONCE = 10
"""Of how many waiting pods the events are read at each look: they mostly wait for the same thing."""
LOGS_END_S = 5.0
"""Seconds that a log may still run on after its Job has ended: some never end by themselves."""

Say = Callable[[str], None]


class Follower:
    """Says each thing once, as it becomes known."""

    def __init__(self, cluster: Cluster, say: Say, *, timeout_s: float | None) -> None:
        self._cluster = cluster
        self._say = say
        self._end = None if timeout_s is None else time.monotonic() + timeout_s
        self._said: set[str] = set()
        self._logs: dict[tuple[str, str], threading.Thread] = {}

    def job(self, name: str, *, logs: bool) -> None:
        """Returns when the Job is complete; raises with the reason when it fails."""
        shown = len(self.pods_of_job(name)) > 1
        while True:
            job = self._cluster.get("batch/v1", "Job", name)
            pods = self.pods_of_job(name)
            if logs:
                self._follow_logs(pods, prefix=job["spec"].get("completions", 1) > 1 or shown)
            state, words = explain.job_state(job)
            self._once(f"job/{name} {state}: {words}")
            self._problems(pods)
            if state == "running" and not pods and (refused := explain.refused_pods(self._cluster.events_of(name))):
                raise DeployError(f"job/{name}: {refused}")
            if state in ("complete", "failed"):
                self._finish_logs()
            if state == "complete":
                return
            if state == "failed":
                raise _job_failed(name, words, pods)
            self._wait(f"job/{name} is {state} ({words})")

    def rollout(self, name: str) -> None:
        """Returns when all pods of a Deployment are of its newest kind and ready."""
        while True:
            deployment = self._cluster.get("apps/v1", "Deployment", name)
            done, words = explain.rollout_state(deployment)
            self._once(f"deployment/{name}: {words}")
            if done:
                return
            pods = self._pods(f"app.kubernetes.io/name={name}")
            self._problems(pods)
            if not pods:
                for replica_set in self._cluster.all(
                    "apps/v1", "ReplicaSet", label_selector=f"app.kubernetes.io/name={name}"
                ):
                    if refused := explain.refused_pods(self._cluster.events_of(replica_set["metadata"]["name"])):
                        raise DeployError(f"deployment/{name}: {refused}")
            self._wait(
                f"deployment/{name} is not there yet ({words}); a pod becomes ready once it has loaded a model: "
                f"`kubectl -n {self._cluster.namespace} logs deployment/{name}`"
            )

    def pods_of_job(self, name: str) -> list[Object]:
        """The pods that a Job has made and that are still there."""
        return self._pods(f"batch.kubernetes.io/job-name={name}")

    def _pods(self, selector: str) -> list[Object]:
        pods = self._cluster.all("v1", "Pod", label_selector=selector)
        return sorted(pods, key=lambda p: (p["metadata"]["creationTimestamp"], p["metadata"]["name"]))

    def _problems(self, pods: Iterable[Object]) -> None:
        asked = 0
        for pod in pods:
            ask = pod.get("status", {}).get("phase") == "Pending" and asked < EVENTS_AT_ONCE
            asked += ask
            events = self._cluster.events_of(pod["metadata"]["name"]) if ask else []
            if problem := explain.pod_problem(pod, events):
                self._once(f"  {problem}")

    def _once(self, line: str) -> None:
        if line not in self._said:
            self._said.add(line)
            self._say(line)

    def _wait(self, state: str) -> None:
        if self._end is not None and time.monotonic() > self._end:
            raise DeployError(f"the time is over: {state}; nothing was stopped, so look again later")
        time.sleep(POLL_S)

    def _follow_logs(self, pods: Iterable[Object], *, prefix: bool) -> None:
        for pod in pods:
            for status in pod.get("status", {}).get("containerStatuses") or []:
                state = status.get("state", {})
                key = (pod["metadata"]["name"], status["name"])
                alive = sum(thread.is_alive() for thread in self._logs.values())
                if key not in self._logs and alive < LOGS_AT_ONCE and ("running" in state or "terminated" in state):
                    thread = threading.Thread(target=self._copy_log, args=(*key, prefix), daemon=True)
                    self._logs[key] = thread
                    thread.start()

    def _copy_log(self, pod: str, container: str, prefix: bool) -> None:
        for line in self._cluster.log_lines(pod, container):
            self._say(f"[{pod}] {line}" if prefix else line)

    def _finish_logs(self) -> None:
        end = time.monotonic() + LOGS_END_S
        for thread in self._logs.values():
            thread.join(max(0.0, end - time.monotonic()))


def _job_failed(name: str, reason: str, pods: list[Object]) -> DeployError:
    problems = [p for pod in pods if (p := explain.pod_problem(pod))]
    because = "; ".join(dict.fromkeys([*problems[-1:], reason]))
    # 3 is a result of its own: the predictions are there.
    return DeployError(f"job/{name} failed: {because}", 3 if explain.exit_code(pods) == 3 else 1)
