"""The Beam pipeline of some chunks: their numbers, shuffled, then one fused stage that does everything else.

Images never cross a stage's border: a runner that keeps or moves stage outputs would keep or move gigabytes.
"""

import contextlib
import dataclasses
import os
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import get_args

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.windowed_value import WindowedValue

from beam_jobs import stop_request
from beam_jobs.beam_flags import runs_here, runs_on_dask
from beam_jobs.ipython import name_steps_without_interactive_runner
from beam_jobs.memory import CHUNKS_AT_ONCE, Allowance
from beam_jobs.parts import Verdict
from beam_jobs.runner_errors import worker_errors
from beam_jobs.worker import ChunkWorker, WorkerSpec


def run_pipeline(spec: WorkerSpec, chunks: Sequence[int], options: PipelineOptions) -> None:
    """Runs until each of the chunks has its part.

    Raises:
      FlowImagesError: what stopped it, as the worker raised it.
    """
    if not chunks:
        return
    name_steps_without_interactive_runner()
    with worker_errors():
        if runs_on_dask(options):
            _run_on_dask(spec, chunks, options)
            return
        with _pipeline(options) as pipeline:
            _build(pipeline, chunks, PredictChunks(spec))


def _build(pipeline: beam.Pipeline, chunks: Sequence[int], predict: "PredictChunks") -> None:
    pipeline | "Chunks" >> beam.Create(list(chunks)) | predict


def _run_on_dask(spec: WorkerSpec, chunks: Sequence[int], options: PipelineOptions) -> None:
    from beam_jobs.dask.cluster import dask_cluster
    from beam_jobs.dask.dask_runner import DaskRunner
    from beam_jobs.dask.worker_memory import threads_share

    with dask_cluster(options, spec.retry.patience_s) as cluster:
        pipeline = beam.Pipeline(runner=DaskRunner(cluster.client, partition_size=1), options=options)
        _build(pipeline, chunks, PredictChunks(spec, threads_share))
        cluster.wait(pipeline.run())


def _pipeline(options: PipelineOptions) -> beam.Pipeline:
    if not runs_here(options):
        return beam.Pipeline(options=options)
    pipeline = beam.Pipeline(runner=FnApiRunner(), options=options)  # DirectRunner would download another runner first
    with contextlib.suppress(OSError):
        os.rmdir(pipeline.local_tempdir)  # only other runners put files there; a killed run would leave it behind
    return pipeline


@dataclasses.dataclass(eq=False)
class PredictChunks(beam.PTransform):
    """Writes the part of every chunk of a bounded PCollection[int], and gives the numbers back.

    May be retried and run twice at once: a part is written whole, by the first.
    """

    spec: WorkerSpec
    divide: Callable[[Allowance], Allowance] | None = None
    """Gives one of several workers in a process, where the runner has such, its share of the memory."""

    def expand(self, chunks: beam.PCollection[int]) -> beam.PCollection[int]:
        """The stage, behind a shuffle that spreads chunks over workers."""
        return chunks | "Spread" >> beam.Reshuffle() | "Predict" >> beam.ParDo(_PredictChunk(self.spec, self.divide))


class _PredictChunk(beam.DoFn):
    """Writes the part of each chunk number that comes in, and passes the number on.

    A few chunks are under way at once, in threads; `finish_bundle` waits for the last ones.
    """

    def __init__(self, spec: WorkerSpec, divide: Callable[[Allowance], Allowance] | None) -> None:
        self._divide = divide
        self._spec = spec  # pickled with the job; the worker itself is made where it runs
        self._counters = {verdict: Metrics.counter("flow_images", verdict) for verdict in get_args(Verdict)}

    def setup(self) -> None:
        memory = self._divide(self._spec.memory) if self._divide else self._spec.memory
        self._worker = ChunkWorker(dataclasses.replace(self._spec, memory=memory))
        self._threads = ThreadPoolExecutor(CHUNKS_AT_ONCE, thread_name_prefix="chunk")

    def teardown(self) -> None:
        self._threads.shutdown()
        self._worker.close()

    def start_bundle(self) -> None:
        self._under_way: deque[tuple[int, Future[Counter[str]]]] = deque()
        self._worker.forget_failure()

    def process(self, chunk: int) -> Iterator[int]:
        self._under_way.append((chunk, self._threads.submit(self._worker.work, chunk)))
        if len(self._under_way) >= CHUNKS_AT_ONCE:
            yield self._finish_oldest()

    def finish_bundle(self) -> Iterator[WindowedValue]:
        while self._under_way:
            yield GlobalWindows.windowed_value(self._finish_oldest())

    def _finish_oldest(self) -> int:
        chunk, counts = self._under_way.popleft()
        try:
            for verdict, count in counts.result().items():
                self._counters[verdict].inc(count)
        except KeyboardInterrupt:  # in a process without our signal handlers, such as a notebook
            stop_request.request_stop()
            stop_request.raise_if_stopped()
        return chunk
