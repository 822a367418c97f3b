"""A Dask cluster while a run is on it: reached, checked, waited for, and told to stop."""

import contextlib
import ssl
import time
import warnings
from collections.abc import Iterator, Mapping
from concurrent.futures import CancelledError
from typing import Any

import dask.distributed
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.dask.dask_runner import DaskRunnerResult
from dask.distributed import Client, KilledWorker
from distributed.comm.core import FatalCommClosedError
from distributed.versions import VersionMismatchWarning

from beam_jobs import stop_request
from beam_jobs.dask.dask_runner import split_options
from serving.console.waiting import Waiting
from serving.errors import FlowImagesError, Transient, UsageError
from serving.network.retry import Retrier, RetryPolicy

_EVERY_S = 0.5
_ATTEMPT_S = 5.0
"""Seconds for one attempt to connect, where the options don't say: a stop is noticed after each."""
_SAME = ("flow-images", "apache-beam", "dask", "distributed", "cloudpickle")
"""Distributions that client, scheduler and workers must have in the same version: they pickle things for each other."""


class ClusterUnavailable(Transient):
    """The scheduler of a Dask cluster does not answer, or the cluster has no worker."""


class DaskCluster:
    """A connection to a cluster that has workers which can run this release's jobs."""

    def __init__(self, client: Client, where: str, patience_s: float) -> None:
        """Waits for the first worker, and compares versions.

        Args:
          client: it is not closed here.
          where: the scheduler's address or file, for messages.
          patience_s: seconds to go on while there is no worker.

        Raises:
          UsageError: the scheduler or a worker lacks a package, or has another version of it.
          ClusterUnavailable: no worker came in time.
          Interrupted: a stop was requested.
        """
        self.client = client
        self._where = where
        self._patience_s = patience_s
        self._worker_seen = started = time.monotonic()
        waiting = Waiting(f"a worker of the Dask cluster {where}", patience_s)
        while not self._has_workers():
            waiting.refused("there is none yet: start some", started)
            stop_request.STOP.wait(_EVERY_S)
            stop_request.raise_if_stopped()
        self._check_versions()

    def wait(self, result: DaskRunnerResult) -> None:
        """Returns when a pipeline is complete. What is left of it is cancelled in any other case.

        Raises:
          Interrupted: a stop was requested.
          ClusterUnavailable: the scheduler or all workers were away for too long.
          FlowImagesError: what a worker raised.
        """
        try:
            self._wait_until_ended(result)
            self.client.gather(result.futures)
        except (KeyboardInterrupt, FlowImagesError):
            raise
        except KilledWorker as error:
            raise FlowImagesError(
                f"a chunk is given up, as {error.allowed_failures + 1} of Dask's workers died at it: for want of "
                "memory, probably; give each worker more, or less `max_memory`"
            ) from error
        except CancelledError as error:
            raise self._scheduler_gone() from error
        except Exception:
            self._check_versions()  # those of a worker that has come since
            raise
        finally:
            with contextlib.suppress(Exception):
                self.client.cancel(result.futures)

    def _wait_until_ended(self, result: DaskRunnerResult) -> None:
        """Returns when a pipeline is complete or has failed; nothing that a worker raises comes out here."""
        try:
            while not self._has_ended(result):
                stop_request.raise_if_stopped()
                if not self._has_workers():
                    stop_request.STOP.wait(_EVERY_S)
        except OSError as error:
            raise self._scheduler_gone() from error

    def _scheduler_gone(self) -> ClusterUnavailable:
        stop_request.raise_if_stopped()  # a stop ends its calls, too
        return ClusterUnavailable(f"the Dask scheduler {self._where} went away")

    def _has_ended(self, result: DaskRunnerResult) -> bool:
        try:
            with self.client.as_current():
                dask.distributed.wait(result.futures, timeout=_EVERY_S)
        except TimeoutError:
            return False
        return True

    def _has_workers(self) -> bool:
        """Is there a worker?

        Raises:
          ClusterUnavailable: not since `patience_s`.
        """
        now = time.monotonic()
        if self.client.scheduler_info(n_workers=0)["n_workers"]:
            self._worker_seen = now
            return True
        if now - self._worker_seen > self._patience_s:
            raise ClusterUnavailable(
                f"the Dask cluster {self._where} has had no worker for {self._patience_s:g} s: start some"
            )
        return False

    def _check_versions(self) -> None:
        found: Any = self.client.get_versions(packages=list(_SAME))
        here = found["client"]["packages"]
        others = {"scheduler": found["scheduler"]} | {f"worker {name}": v for name, v in found["workers"].items()}
        for who, theirs in others.items():
            if wrong := _differences(theirs["packages"], here):
                raise UsageError(
                    f"Dask's {who} has {wrong}: start scheduler and workers from an installation of "
                    f"flow-images[predict,dask] {here['flow-images']} at the versions used here"
                )


def _differences(theirs: Mapping[str, str | None], here: Mapping[str, str | None]) -> str:
    wrong = []
    if _minor(theirs["python"]) != _minor(here["python"]):
        wrong.append(f"Python {_minor(theirs['python'])} (here {_minor(here['python'])})")
    for name in _SAME:
        if theirs.get(name) is None:
            wrong.append(f"no {name}")
        elif theirs[name] != here[name]:
            wrong.append(f"{name} {theirs[name]} (here {here[name]})")
    return ", ".join(wrong)


def _minor(python: str | None) -> str:
    return ".".join(str(python).split(".")[:2])


@contextlib.contextmanager
def dask_cluster(options: PipelineOptions, patience_s: float) -> Iterator[DaskCluster]:
    """The cluster that Beam's options name, with the connection closed at the end.

    Args:
      options: those of Dask among them.
      patience_s: seconds to go on while there is no scheduler, and then while there is no worker.

    Raises:
      UsageError: the address is none, certificates are refused, or versions differ.
      ClusterUnavailable: no scheduler answered, or no worker came in time.
      Interrupted: a stop was requested.
    """
    connection: dict[str, Any] = {"timeout": _ATTEMPT_S, **split_options(options)[1]}
    where = str(connection.get("address") or connection.get("scheduler_file"))
    with contextlib.closing(_connect(connection, where, patience_s)) as client:
        yield DaskCluster(client, where, patience_s)


def _connect(connection: Mapping[str, Any], where: str, patience_s: float) -> Client:
    retry = Retrier(RetryPolicy(patience_s=patience_s), stop_request.STOP)
    try:
        return retry(lambda: _client(connection, where))
    except ClusterUnavailable:
        stop_request.raise_if_stopped()
        raise


def _client(connection: Mapping[str, Any], where: str) -> Client:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", VersionMismatchWarning)  # DaskCluster looks itself
            return Client(**connection, set_as_default=False)
    except (ValueError, TypeError, FileNotFoundError) as error:
        raise UsageError(f"{where} is no Dask scheduler: give it as tcp://HOST:8786 or tls://HOST:8786") from error
    except OSError as error:
        if isinstance(error.__cause__, ssl.SSLError) or isinstance(error, FatalCommClosedError):
            raise UsageError(
                f"the Dask scheduler {where} and this side refuse each other's certificates: {error}"
            ) from error
        raise ClusterUnavailable(f"the Dask scheduler {where} does not answer: {error}") from error
