"""Runs on a Dask cluster: complete whatever happens to its workers, and told apart when it can't go on."""

import dataclasses
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path

import apache_beam as beam
import dask.config
import grpc
import pytest
from dask.distributed import Client

from beam_jobs import stop_request
from beam_jobs.beam_flags import parse_beam_flags
from beam_jobs.dask.cluster import ClusterUnavailable, dask_cluster
from beam_jobs.dask.dask_runner import DaskRunner
from beam_jobs.pipeline import run_pipeline
from beam_jobs.stop_request import Interrupted
from beam_jobs.worker import WorkerSpec
from serving.errors import EXIT_RESUMABLE, FlowImagesError, ServerUnavailable, UsageError
from serving.network.retry import RetryPolicy
from tests.beam_jobs.conftest import COUNT
from tests.beam_jobs.dask.clusters import Cluster, only
from tests.beam_jobs.model_server import ModelServer, Refusal
from tests.beam_jobs.runs import parts_of
from tests.k8s.cluster.control_plane import wait_until
from tests.k8s.cluster.pki import Authority

ALL = [0, 1, 2, 3]


def run(spec: WorkerSpec, cluster: Cluster) -> None:
    """The whole run on the cluster."""
    run_pipeline(spec, ALL, parse_beam_flags(["--runner=DaskRunner", f"--dask_client_address={cluster.address}"]))


def started(do: Callable[[], None]) -> Future[None]:
    """What a function ends with, which runs in a thread meanwhile."""
    outcome: Future[None] = Future()

    def call() -> None:
        try:
            do()
            outcome.set_result(None)
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=call, daemon=True).start()
    return outcome


class Held:
    """Holds the requests of a model until a test lets them go."""

    def __init__(self, model: ModelServer, *, after: int = 0) -> None:
        self.reached, self.go_on = threading.Event(), threading.Event()
        self._left = after
        model.step = self._step

    def _step(self, files: Sequence[bytes]) -> None:
        self._left -= 1
        if self._left < 0:
            self.reached.set()
            assert self.go_on.wait(120)


@pytest.fixture
def held(model: ModelServer) -> Iterator[Held]:
    """The second half of the second chunk is held, and what follows."""
    holding = Held(model, after=3)
    yield holding
    holding.go_on.set()


def assert_complete(spec: WorkerSpec) -> None:
    parts = parts_of(spec)
    assert parts.done(0) == set(ALL)
    outcomes = [one for chunk in ALL for one in parts.read(0, chunk)]
    assert [one.verdict for one in outcomes] == ["predicted"] * COUNT
    # The images are ever brighter.
    assert [one.scores[list(one.classes).index(0)] for one in outcomes] == sorted(
        one.scores[list(one.classes).index(0)] for one in outcomes
    )


def test_each_chunk_has_its_part_and_each_image_is_asked_once(
    cluster: Cluster, spec: WorkerSpec, model: ModelServer
) -> None:
    cluster.start_worker()
    cluster.start_worker()
    run(spec, cluster)
    assert_complete(spec)
    assert len(set(model.asked)) == len(model.asked) == COUNT


def test_workers_keep_to_one_rate(cluster: Cluster, spec: WorkerSpec, model: ModelServer) -> None:
    """The server sees it."""
    asked: list[float] = []
    model.step = lambda files: asked.append(time.monotonic())
    cluster.start_worker()
    cluster.start_worker()
    run(dataclasses.replace(spec, max_rate=2.0), cluster)
    assert_complete(spec)
    assert len(asked) == COUNT / spec.chunk.batch_size
    slowest_first_request_s = 1.5
    assert max(asked) - min(asked) >= (len(asked) - 2) / 2 - slowest_first_request_s


def test_a_killed_workers_chunks_are_done_by_one_that_comes_later(
    cluster: Cluster, spec: WorkerSpec, held: Held
) -> None:
    first = cluster.start_worker()
    patient = dataclasses.replace(spec, retry=RetryPolicy(patience_s=60))
    ended = started(lambda: run(patient, cluster))
    assert held.reached.wait(60)
    first.kill()
    first.wait()
    held.go_on.set()
    cluster.start_worker()
    ended.result(120)
    assert_complete(spec)


def test_a_chunk_at_which_workers_die_is_given_up(cluster: Cluster, spec: WorkerSpec, held: Held) -> None:
    assert cluster.scheduler
    cluster.scheduler.kill()
    cluster.scheduler.wait()
    cluster.start_scheduler(allowed_failures=0)
    worker = cluster.start_worker()
    ended = started(lambda: run(dataclasses.replace(spec, retry=RetryPolicy(patience_s=60)), cluster))
    assert held.reached.wait(60)
    worker.kill()
    with pytest.raises(FlowImagesError, match="a chunk is given up, as 1 of Dask's workers died at it"):
        ended.result(60)


def test_bundles_of_several_chunks(cluster: Cluster, spec: WorkerSpec) -> None:
    flags = ["--runner=DaskRunner", f"--dask_client_address={cluster.address}", "--dask_npartitions=2"]
    cluster.start_worker()
    run_pipeline(spec, ALL, parse_beam_flags(flags))
    assert_complete(spec)


def test_a_killed_scheduler_leaves_a_run_that_can_go_on(cluster: Cluster, spec: WorkerSpec, held: Held) -> None:
    worker = cluster.start_worker(environment={"DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "1s"})
    ended = started(lambda: run(spec, cluster))
    assert held.reached.wait(60)
    assert cluster.scheduler
    cluster.scheduler.kill()
    cluster.scheduler.wait()
    held.go_on.set()
    with pytest.raises(ClusterUnavailable, match=r"scheduler tcp://127\.0\.0\.1:\d+ went away$") as error:
        ended.result(120)
    assert error.value.exit_code == EXIT_RESUMABLE
    worker.kill()
    cluster.start_scheduler()
    cluster.start_worker()
    run(spec, cluster)
    assert_complete(spec)


def test_a_cluster_that_gets_no_worker_is_given_up(cluster: Cluster, spec: WorkerSpec) -> None:
    with pytest.raises(ClusterUnavailable, match="has had no worker for 0 s: start some"):
        run(spec, cluster)


def test_a_stop_takes_the_work_from_the_cluster(cluster: Cluster, spec: WorkerSpec, held: Held) -> None:
    cluster.start_worker()

    def interrupted() -> None:
        with stop_request.run_in_progress():
            run(spec, cluster)

    ended = started(interrupted)
    assert held.reached.wait(60)
    stop_request.request_stop()
    with pytest.raises(Interrupted):
        ended.result(30)
    held.go_on.set()
    with Client(cluster.address, set_as_default=False) as client:
        assert client.run_on_scheduler(_tasks) == 0
    assert parts_of(spec).done(0) < set(ALL)


def _tasks(dask_scheduler: object) -> int:
    return len(dask_scheduler.tasks)  # type: ignore[attr-defined]


@pytest.fixture
def tls_cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A scheduler that speaks TLS; Dask's own settings have the certificates of this side."""
    authority = Authority(tmp_path / "certificates")
    cert = authority.issue("node", "node", hosts=("127.0.0.1",))
    key = cert.with_suffix(".key")
    flags = [f"--tls-ca-file={authority.certificate}", f"--tls-cert={cert}", f"--tls-key={key}"]
    tls = {"ca-file": authority.certificate, "client.cert": cert, "client.key": key}
    settings = {f"distributed.comm.tls.{name}": str(path) for name, path in tls.items()}
    with dask.config.set(settings), Cluster(tmp_path, protocol="tls", flags=flags) as cluster:
        yield cluster


def test_a_cluster_that_speaks_tls(tls_cluster: Cluster, spec: WorkerSpec) -> None:
    tls_cluster.start_worker()
    run(spec, tls_cluster)
    assert_complete(spec)


@pytest.mark.parametrize("whose", ["the scheduler's", "this side's"])
def test_a_certificate_that_is_refused_is_not_waited_for(
    tls_cluster: Cluster, spec: WorkerSpec, tmp_path: Path, whose: str
) -> None:
    other = Authority(tmp_path / "other")
    cert = other.issue("node", "node", hosts=("127.0.0.1",))
    settings = {
        "the scheduler's": {"ca-file": other.certificate},
        "this side's": {"client.cert": cert, "client.key": cert.with_suffix(".key")},
    }[whose]
    patient = dataclasses.replace(spec, retry=RetryPolicy(patience_s=600))
    refused = r"scheduler tls://127\.0\.0\.1:\d+ and this side refuse each other's certificates"
    config = {f"distributed.comm.tls.{name}": str(path) for name, path in settings.items()}
    with dask.config.set(config), pytest.raises(UsageError, match=refused):
        run(patient, tls_cluster)


def test_an_error_comes_back_as_the_worker_raised_it(cluster: Cluster, spec: WorkerSpec, model: ModelServer) -> None:
    def away(files: Sequence[bytes]) -> None:
        raise Refusal(grpc.StatusCode.UNAVAILABLE, "going away")

    model.step = away
    cluster.start_worker()
    with pytest.raises(ServerUnavailable, match="going away") as error:
        run(spec, cluster)
    assert error.value.target == model.address


def _fail(_: object) -> None:
    raise OSError("the worker's own disk")


def test_an_error_of_a_workers_system_is_not_taken_for_the_schedulers(cluster: Cluster) -> None:
    cluster.start_worker()
    flags = ["--runner=DaskRunner", f"--dask_client_address={cluster.address}"]
    with dask_cluster(parse_beam_flags(flags), patience_s=60) as connected:
        pipeline = beam.Pipeline(runner=DaskRunner(connected.client))
        pipeline | beam.Create([1]) | beam.Map(_fail)
        with pytest.raises(OSError, match="the worker's own disk"):
            connected.wait(pipeline.run())


def test_a_wrong_address_is_told(spec: WorkerSpec) -> None:
    with pytest.raises(UsageError, match="http://localhost:1 is no Dask scheduler: give it as tcp://HOST"):
        run_pipeline(spec, ALL, parse_beam_flags(["--runner=DaskRunner", "--dask_client_address=http://localhost:1"]))


def test_a_scheduler_that_is_not_there_may_come(spec: WorkerSpec) -> None:
    flags = ["--runner=DaskRunner", "--dask_client_address=tcp://127.0.0.1:1", "--dask_connection_timeout=1"]
    with pytest.raises(ClusterUnavailable, match=r"scheduler tcp://127\.0\.0\.1:1 does not answer"):
        run_pipeline(spec, ALL, parse_beam_flags(flags))


def test_another_version_on_a_worker_is_told(cluster: Cluster, spec: WorkerSpec, tmp_path: Path) -> None:
    other = tmp_path / "other" / "flow_images-9.9.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: flow-images\nVersion: 9.9\n")
    cluster.start_worker(path=[str(other.parent), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
    with pytest.raises(UsageError, match=r"worker tcp://127\.0\.0\.1:\d+ has flow-images 9\.9 \(here \d.*\): start"):
        run(spec, cluster)
    assert parts_of(spec).done(0) == set()


def test_a_worker_without_our_packages_is_told(cluster: Cluster, spec: WorkerSpec, tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    alone.mkdir()
    cluster.start_worker(path=[only(alone, "distributed")], isolated=True)
    with pytest.raises(
        UsageError, match=r"has no flow-images, no apache-beam: start .* flow-images\[predict,dask\] \d"
    ):
        run(spec, cluster)


@pytest.fixture
def no_scheduler(cluster: Cluster) -> Iterator[Callable[[], None]]:
    """The cluster's scheduler is gone. Call it to wait until somebody has asked for one in vain."""
    assert cluster.scheduler
    cluster.scheduler.kill()
    cluster.scheduler.wait()
    with socket.create_server(("127.0.0.1", cluster.port), reuse_port=True) as closed:

        def asked() -> None:
            closed.settimeout(60)
            closed.accept()[0].close()
            closed.close()

        yield asked


def test_it_is_said_what_is_waited_for(
    cluster: Cluster, spec: WorkerSpec, no_scheduler: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    def said(text: str) -> bool:
        return any(text in record.getMessage() for record in caplog.records)

    ended = started(lambda: run(dataclasses.replace(spec, retry=RetryPolicy(patience_s=600)), cluster))
    no_scheduler()
    wait_until("the scheduler is missed", lambda: said(f"waiting up to 600 s: the Dask scheduler {cluster.address}"))
    cluster.start_scheduler()
    wait_until("a worker is missed", lambda: said(f"for a worker of the Dask cluster {cluster.address}: there is none"))
    cluster.start_worker()
    ended.result(120)


def test_a_late_scheduler_is_waited_for(cluster: Cluster, spec: WorkerSpec, no_scheduler: Callable[[], None]) -> None:
    ended = started(lambda: run(dataclasses.replace(spec, retry=RetryPolicy(patience_s=120)), cluster))
    no_scheduler()
    cluster.start_scheduler()
    cluster.start_worker()
    ended.result(120)
    assert_complete(spec)


def test_waiting_for_a_scheduler_can_be_stopped(
    cluster: Cluster, spec: WorkerSpec, no_scheduler: Callable[[], None]
) -> None:
    ended = started(lambda: run(dataclasses.replace(spec, retry=RetryPolicy(patience_s=600)), cluster))
    no_scheduler()
    with stop_request.run_in_progress():
        stop_request.request_stop()
        with pytest.raises(Interrupted):
            ended.result(60)
