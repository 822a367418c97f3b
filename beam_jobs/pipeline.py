"""The Beam pipeline: chunk numbers, shuffled, then one fused stage that does everything else.

Pictures never cross a stage's border: a runner that keeps or moves stage outputs would keep or move gigabytes.
"""

import contextlib
import dataclasses
import io
import logging
import re
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.windowed_value import WindowedValue

from beam_jobs.memory import CHUNKS_AT_ONCE
from beam_jobs.worker import ChunkWorker, WorkerSpec
from serving.errors import FlowImagesError, UsageError

_LOCAL_RUNNERS = {None, "DirectRunner", "BundleBasedDirectRunner", "FnApiRunner", "SwitchingDirectRunner"}


class _PredictChunk(beam.DoFn):
    """Writes the part of each chunk number that comes in, and passes the number on."""

    def __init__(self, connect: Callable[[], ChunkWorker]) -> None:
        self._connect = connect  # pickled with the job, so a recipe and not a channel
        self._counters = {verdict: Metrics.counter("flow_images", verdict) for verdict in _VERDICTS}

    def setup(self) -> None:
        self._worker = self._connect()
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
            yield self._finished()

    def finish_bundle(self) -> Iterator[WindowedValue]:
        while self._under_way:
            yield GlobalWindows.windowed_value(self._finished())

    def _finished(self) -> int:
        chunk, counts = self._under_way.popleft()
        for verdict, count in counts.result().items():
            self._counters[verdict].inc(count)
        return chunk


_VERDICTS = ("predicted", "rejected", "failed")


@dataclasses.dataclass(eq=False)
class PredictChunks(beam.PTransform):
    """Writes the part of every chunk of a bounded PCollection[int], and gives the numbers back.

    May be retried and run twice at once: a part is written whole, by the first.
    """

    spec: WorkerSpec

    def expand(self, chunks: beam.PCollection[int]) -> beam.PCollection[int]:
        """The stage, behind a shuffle that spreads chunks over workers."""
        spec = self.spec
        return chunks | "Spread" >> beam.Reshuffle() | "Predict" >> beam.ParDo(_PredictChunk(lambda: ChunkWorker(spec)))


def beam_options(flags: Sequence[str]) -> PipelineOptions:
    """Beam's options of its own flags.

    Raises:
      UsageError: a flag that Beam does not know (it would only warn and run elsewhere) or understand, or one that
        loses rows.
    """
    if flags and not flags[0].startswith("-"):
        raise UsageError(
            f"unexpected argument {flags[0]!r}: a pattern goes in quotes (`inputs` 'photos/*.jpg'), each further input "
            "behind an `inputs` of its own, and Beam's own flags behind --"
        )
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            options = PipelineOptions(list(flags))
            unknown = _unknown_flags(options)
    except SystemExit as error:  # of Beam's own parser, whose words may show a secret
        if not error.code:
            raise
        flag = re.search(r"argument (\S+):", said.getvalue())
        raise UsageError(
            f"Beam does not understand {flag[1] if flag else 'its flags'}; write each as --flag=value"
        ) from error
    if unknown:
        # Without their values, which may be secrets of a flag that is just misspelt.
        raise UsageError(f"Beam does not know {' '.join(flag.split('=', 1)[0] for flag in unknown)}")
    if options.get_all_options().get("direct_running_mode") == "multi_threading":
        raise UsageError("--direct_running_mode=multi_threading loses rows in Beam 2.77 and earlier; leave it out")
    return options


def runs_here(options: PipelineOptions) -> bool:
    """Is the job run by this process, and not handed to a runner elsewhere?"""
    return options.view_as(StandardOptions).runner in _LOCAL_RUNNERS


def run_pipeline(spec: WorkerSpec, chunks: Sequence[int], options: PipelineOptions) -> None:
    """Runs the job until every chunk has its part.

    Raises:
      FlowImagesError: what stopped it, as the worker raised it.
    """
    if not chunks:
        return
    # DirectRunner would try to download another runner first.
    local = runs_here(options)
    try:
        with beam.Pipeline(runner=FnApiRunner() if local else None, options=options) as pipeline:
            pipeline | "Chunks" >> beam.Create(list(chunks)) | PredictChunks(spec)
    except FlowImagesError as error:
        error.args = (_STEP.sub("", str(error.args[0])), *error.args[1:])
        raise
    except Exception as error:
        raise _revived(error) from error


_STEP = re.compile(r" \[while running '[^']*'\]")
"""What Beam adds to the message of an error: of a user's concern is the file or server, not the step."""


def _unless_ours(record: logging.LogRecord) -> bool:
    """Beam logs an error of a step with its stack; ours are for users, who are told once, in a line."""
    return not (record.exc_info and isinstance(record.exc_info[1], FlowImagesError))


logging.getLogger("apache_beam.runners.common").addFilter(_unless_ours)


def _revived(error: Exception) -> FlowImagesError:
    """Our own error out of the text that a runner made of it on its way between processes."""
    kinds = {kind.__name__: kind for kind in _kinds(FlowImagesError)}
    found = re.findall(rf"\b({'|'.join(kinds)}): (.+?)(?: \[while running.*)?$", str(error), re.MULTILINE)
    if found:
        name, message = found[-1]
        return kinds[name](message)
    return FlowImagesError(f"the Beam runner failed: {type(error).__name__}: {error}")


def _kinds(base: type[FlowImagesError]) -> list[type[FlowImagesError]]:
    return [base, *(kind for child in base.__subclasses__() for kind in _kinds(child))]


def _unknown_flags(options: PipelineOptions) -> list[str]:
    """Beam tells of unknown flags only in a log record, so that is what is read."""
    records: list[logging.LogRecord] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    logger, handler = logging.getLogger("apache_beam.options.pipeline_options"), Collect()
    logger.addHandler(handler)
    propagate, logger.propagate = logger.propagate, False
    try:
        options.get_all_options()
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate
    found = [str(flag) for r in records if str(r.msg).startswith("Discarding unparseable") for flag in _flags(r)]
    return [flag for flag in found if flag.startswith("-")] or ["one of its arguments"] * bool(found)


def _flags(record: logging.LogRecord) -> Sequence[object]:
    args = record.args[0] if isinstance(record.args, tuple) else record.args
    return args if isinstance(args, list) else [args]
