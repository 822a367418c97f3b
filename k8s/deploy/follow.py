"""Waits for Jobs and rollouts, and shows progress, logs and problems meanwhile."""

import threading
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Self

from k8s.deploy import explain, left_behind
from k8s.deploy.cluster import Cluster, Log, Object
from k8s.deploy.cluster_errors import DeployError, StillThere, Unreachable
from k8s.deploy.ownership import PART_OF
from serving.errors import EXIT_FAILED, EXIT_NOT_BLESSED, EXIT_OVER_LIMIT, EXIT_RESUMABLE, EXIT_USAGE

POLL_S = 1.0
"""Seconds between two looks at the cluster."""
SILENCE_S = 120.0
"""Seconds without any answer after which the cluster is given up: an upgrade of its API server takes less."""
LOGS_AT_ONCE = 20
"""How many logs are followed together; a Job of a thousand pods would be unreadable anyway."""
EVENTS_AT_ONCE = 10
"""At each look the events of so many waiting pods are read: they mostly wait for the same thing."""
LOGS_END_S = 5.0
"""Seconds that a log may still run on after its Job has ended: some never end by themselves."""

Say = Callable[[str], None]


class Follower:
    """Says each thing once, as it becomes known, and nothing more after the `with` block."""

    def __init__(self, cluster: Cluster, say: Say, *, timeout_s: float | None) -> None:
        self._cluster = cluster
        self._write: Say | None = say
        self._writing = threading.Lock()
        self._end = None if timeout_s is None else time.monotonic() + timeout_s
        self._said: set[str] = set()
        self._logs: dict[tuple[str, str], threading.Thread] = {}
        self._open: list[Log] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._writing:
            self._write = None
        # A thread that still reads when the interpreter ends may abort the process.
        for log in self._open:
            log.close()
        self._finish_logs()

    def job(self, name: str) -> None:
        """Returns when the Job is complete; raises with the reason when it fails."""
        self._until_done(lambda: self._look_at_job(name))

    def rollout(self, name: str) -> None:
        """Returns when all pods of a Deployment are of its newest kind and ready."""
        self._until_done(lambda: self._look_at_rollout(name))

    def _until_done(self, look: Callable[[], str | None]) -> None:
        """Looks again and again, as long as there is something that is waited for."""
        answered = time.monotonic()
        while True:
            try:
                waits_for = look()
                answered = time.monotonic()
            except Unreachable as error:
                if time.monotonic() - answered > SILENCE_S:
                    raise
                waits_for = str(error)
                self._once(f"{error}; asking on")
            if waits_for is None:
                return
            if self._end is not None and time.monotonic() > self._end:
                raise StillThere(f"the time-out has passed: {waits_for}")
            time.sleep(POLL_S)

    def _look_at_job(self, name: str) -> str | None:
        job = self._cluster.get("batch/v1", "Job", name)
        pods = self._pods(f"batch.kubernetes.io/job-name={name}")
        self._follow_logs(pods, prefix=job["spec"].get("completions", 1) > 1)
        state, words = explain.job_state(job)
        self._once(f"job/{name} {state}: {words}")
        self._problems(pods)
        if explain.lacks_pods(job) and (refused := explain.refused_pods(self._cluster.events_of(job))):
            self._refused(f"job/{name}", refused, final=not pods)
        if state in ("complete", "failed"):
            self._finish_logs()
        if state == "failed":
            raise _job_failed(name, words, pods)
        return None if state == "complete" else f"job/{name} is {state} ({words})"

    def _look_at_rollout(self, name: str) -> str | None:
        deployment = self._cluster.get("apps/v1", "Deployment", name)
        done, words = explain.rollout_state(deployment)
        self._once(f"deployment/{name}: {words}")
        if done:
            return None
        self._problems(self._pods(f"app.kubernetes.io/name={name},{PART_OF}"))
        if stuck := explain.rollout_problem(deployment):
            self._refused(f"deployment/{name}", stuck, final=True)
        return (
            f"deployment/{name} is not there yet ({words}); a pod becomes ready once it has loaded a model: "
            f"`kubectl -n {self._cluster.namespace} logs deployment/{name}`"
        )

    def _refused(self, what: str, why: str, *, final: bool) -> None:
        if final and not explain.may_pass(why):
            raise StillThere(f"{what}: {why}")
        self._once(f"  {what}: {why}; the cluster tries again")

    def _pods(self, selector: str) -> list[Object]:
        pods = self._cluster.all("v1", "Pod", label_selector=selector)
        return sorted(pods, key=lambda p: (p["metadata"]["creationTimestamp"], p["metadata"]["name"]))

    def _problems(self, pods: Iterable[Object]) -> None:
        asked = 0
        for pod in pods:
            ask = pod.get("status", {}).get("phase") == "Pending" and asked < EVENTS_AT_ONCE
            asked += ask
            if problem := explain.pod_problem(pod, self._cluster.events_of(pod) if ask else []):
                self._once(f"  {problem}")

    def _say(self, line: str) -> None:
        with self._writing:
            if self._write is not None:
                self._write(line)

    def _once(self, line: str) -> None:
        if line not in self._said:
            self._said.add(line)
            self._say(line)

    def _follow_logs(self, pods: Iterable[Object], *, prefix: bool) -> None:
        for pod in pods:
            for status in pod.get("status", {}).get("containerStatuses") or []:
                state = status.get("state", {})
                key = (pod["metadata"]["name"], status["name"])
                alive = sum(thread.is_alive() for thread in self._logs.values())
                if key not in self._logs and alive < LOGS_AT_ONCE and ("running" in state or "terminated" in state):
                    log = self._cluster.log(*key)
                    self._open.append(log)
                    start = f"[{key[0]}] " if prefix else ""
                    thread = threading.Thread(target=self._copy_log, args=(log, start), daemon=True)
                    self._logs[key] = thread
                    thread.start()

    def _copy_log(self, log: Log, start: str) -> None:
        left_behind.leave_signals_to_main_thread()
        for line in log.lines():
            self._say(start + line)

    def _finish_logs(self) -> None:
        end = time.monotonic() + LOGS_END_S
        for thread in self._logs.values():
            thread.join(max(0.0, end - time.monotonic()))


def _job_failed(name: str, reason: str, pods: list[Object]) -> DeployError:
    pod = explain.decisive(pods)
    problem = explain.pod_problem(pod) if pod else None
    code = explain.exit_code(pod) if pod else EXIT_FAILED
    # These mean the same as the command's own; any other of a container means that it failed.
    ours = code if code in (EXIT_USAGE, EXIT_OVER_LIMIT, EXIT_NOT_BLESSED, EXIT_RESUMABLE) else EXIT_FAILED
    return DeployError(f"job/{name} failed: {'; '.join(filter(None, [problem, reason]))}", ours)
