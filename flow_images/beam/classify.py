"""A Beam transform that classifies the images of a PCollection with a served model."""

import os
import reprlib
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.pvalue import AsSingleton, PCollection, TaggedOutput
from apache_beam.transforms.window import BoundedWindow
from apache_beam.typehints.decorators import IOTypeHints
from apache_beam.utils.windowed_value import PaneInfo, WindowedValue

from beam_jobs.chunk_predictor import ChunkOptions
from flow_images.beam.shared_in_process import SharedInProcess
from flow_images.beam.worker_classifier import Image, Worker, WorkerOptions
from serving.client.client_options import AnswerOptions, TlsOptions, make_endpoint
from serving.client.model_overrides import ModelOverrides
from serving.client.predict_client import pinned
from serving.images.limits import ImageLimits
from serving.images.wire import WireOrAuto
from serving.network.retry import RetryPolicy
from serving.storage.storage_options import StorageOptions

_FAILURES = "failures"


class Classified(NamedTuple):
    """The two outputs of `Classify`: of `Classification`, or of (key, `Classification`) where the input has keys."""

    predictions: PCollection
    """Results with labels and scores."""
    failures: PCollection
    """Results with a reason: `rejected` by the image's own fault, or `failed` by the system's with this one image."""


class Classify(beam.PTransform):
    """Classifies the images of a PCollection of paths, or of pairs of a key and an image.

        results = paths | fi.beam.Classify("serving:8500", "dogs")
        results.predictions | beam.Map(lambda one: f"{one.image},{one.label},{one.score}") | WriteToText("labels.csv")
        results.failures | beam.Map(str) | "Write failures" >> WriteToText("failures.txt")

    An element is a path (on a disk, or of a bucket such as gs:// and s3://), or a pair (key, image) where image is such
    a path or the `bytes` of a file. Each element comes out exactly once, in `predictions` or in `failures`, in its own
    window and with its own timestamp; pairs keep their key. The order is not kept. An image in several windows, as
    sliding windows make it, is asked about once for each: classify before such windows.

    One broken image costs only itself: a refused request is halved, one that misses its deadlines is taken apart. A
    server or a bucket that stays away for `patience_s` fails the bundle, so a pipeline that succeeds is complete.

    One version of the model answers for the whole pipeline. It is resolved in one step of the pipeline itself, whose
    result all workers get as a side input, so workers that start at different times ask for the same version, and
    the machine that launches the pipeline need not reach the server. Give `version` where a runner may repeat that step
    (after it lost the step's result) or where the pipeline is restarted and must not change versions.

    Each worker process opens one channel with its first element, whatever its number of threads. Before it sends that,
    it replays the golden images that came with the model; a server that doesn't answer as the model did when it was
    exported fails the pipeline. Images that are read, decoded and asked about are bounded by `max_memory`; requests
    are filled from up to 1024 elements of a bundle. A bearer token is taken from the variable FLOW_IMAGES_TOKEN on the
    worker. The workers need the packages `flow-images[predict]`, and no TensorFlow.
    """

    def __init__(
        self,
        server: str,
        model_name: str,
        *,
        version: int | None = None,
        tls: TlsOptions | bool | None = None,
        deadline_s: float = RetryPolicy().deadline_s,
        patience_s: float = RetryPolicy().patience_s,
        wire: WireOrAuto = "auto",
        top_k: int = 5,
        batch_size: int = 32,
        overrides: ModelOverrides | None = None,
        limits: ImageLimits | None = None,
        readers: int = ChunkOptions().readers,
        max_memory: int | None = None,
        storage: StorageOptions | None = None,
    ) -> None:
        """Checks the arguments; the server is asked when the pipeline runs.

        Args:
          server: HOST:PORT of TensorFlow Serving's gRPC port, several IP:PORT with commas, `dns:///HOST:PORT` or
            `unix:/PATH`, as the workers reach it.
          model_name: the model's name on the server.
          version: the version to ask; None for the latest when the pipeline starts.
          tls: True or TlsOptions for a server with TLS; files are read on the workers.
          deadline_s: seconds that one request may take.
          patience_s: seconds to go on trying while the server or a bucket is away or overloaded.
          wire: how images travel: float32, uint8 or encoded; auto is encoded where the server is on the worker's
            machine, else float32.
          top_k: classes to keep of each image.
          batch_size: images a request.
          overrides: what is known of a model without a contract; files that it names are read on the workers.
          limits: an image over them is rejected; None for the usual ones.
          readers: images that are read at once; more for a slow bucket.
          max_memory: bytes that a worker's process may take; None for nine tenths of the container's limit, or half
            of the machine's memory.
          storage: how buckets are reached; None for what the workers' environment says.

        Raises:
          UsageError: a wrong value.
        """
        super().__init__()
        answers = AnswerOptions(wire=wire, top_k=top_k)
        self._options = WorkerOptions(
            endpoint=make_endpoint(server, model_name, version, tls),
            retry=RetryPolicy(deadline_s=deadline_s, patience_s=patience_s),
            wire=answers.wire,
            overrides=ModelOverrides() if overrides is None else overrides,
            limits=ImageLimits() if limits is None else limits,
            chunk=ChunkOptions(top_k=answers.top_k, batch_size=batch_size, readers=readers),
            max_memory=max_memory,
            storage=StorageOptions() if storage is None else storage,
        )

    def default_type_hints(self) -> IOTypeHints:
        """None: Beam would take them from `expand`, and warn at each use that there are two outputs."""
        return IOTypeHints.empty()

    def expand(self, images: PCollection) -> Classified:
        """The step that pins the version, and the step that classifies."""
        options = self._options
        version = (
            images.pipeline
            | "Once" >> beam.Create([None])
            | "Pin the version" >> beam.Map(lambda _: pinned(options.endpoint, options.retry).version)
        )
        done = images | "Classify" >> beam.ParDo(_ClassifyImages(options), AsSingleton(version)).with_outputs(
            _FAILURES, main="predictions"
        )
        return Classified(done.predictions, done[_FAILURES])


class _Element(NamedTuple):
    """An element that waits for its result, with the key, timestamp, window and pane of the result."""

    image: Image
    key: tuple[Any, ...]
    """(key,), or () of an element without one."""
    timestamp: Any
    window: BoundedWindow
    pane: PaneInfo


class _ClassifyImages(beam.DoFn):
    """Collects elements of a bundle, and classifies them together."""

    def __init__(self, options: WorkerOptions) -> None:
        self._options = options  # pickled with the pipeline, so a recipe and not a channel
        self._counters = {name: Metrics.counter("flow_images", name) for name in ("predicted", "rejected", "failed")}

    def setup(self) -> None:
        self._version: int | None = None
        self._worker: Worker | None = None

    def start_bundle(self) -> None:
        self._waiting: list[_Element] = []
        self._bytes = 0

    def process(
        self,
        element: Any,
        version: int,
        timestamp: Any = beam.DoFn.TimestampParam,
        window: Any = beam.DoFn.WindowParam,
        pane: Any = beam.DoFn.PaneInfoParam,
    ) -> Iterable[Any]:
        if self._worker is None:  # not in setup, where there is no side input
            self._version = version
            self._worker = _WORKERS.acquire(self._options.at(version))
        image, key = _parse(element)
        self._waiting.append(_Element(image, key, timestamp, window, pane))
        self._bytes += image.size or 0
        full = len(self._waiting) >= _MOST_ELEMENTS or self._bytes >= _MOST_BYTES
        return self._classified() if full else ()

    def finish_bundle(self) -> Iterator[Any]:
        yield from self._classified()

    def teardown(self) -> None:
        if self._worker is not None and self._version is not None:
            _WORKERS.release(self._options.at(self._version))

    def _classified(self) -> Iterator[Any]:
        """The results of the elements that wait, each in the window of its element."""
        waiting, self._waiting, self._bytes = self._waiting, [], 0
        if self._worker is None or not waiting:
            return
        results = self._worker.classify([element.image for element in waiting])
        for element, result in zip(waiting, results, strict=True):
            self._counters[result.verdict].inc()
            value = WindowedValue(
                (*element.key, result) if element.key else result, element.timestamp, (element.window,), element.pane
            )
            yield value if result.ok else TaggedOutput(_FAILURES, value)


_MOST_ELEMENTS = 1024
"""That wait in a bundle: enough batches that reads, decoding and requests overlap."""
_MOST_BYTES = 64 * 1024 * 1024
"""How many bytes of files wait in a bundle, where elements are bytes."""
_WORKERS: SharedInProcess[WorkerOptions, Worker] = SharedInProcess(Worker)


def _parse(element: Any) -> tuple[Image, tuple[Any, ...]]:
    """The image and the key of an element.

    Raises:
      TypeError: it is neither a path nor a pair of a key and an image.
    """
    key = element[:1] if isinstance(element, tuple) and len(element) == 2 else ()
    image = element[1] if key else element
    if isinstance(image, os.PathLike):
        image = os.fspath(image)
    if isinstance(image, str):
        return Image(name=image, path=image), key
    if isinstance(image, bytes) and key:
        name = key[0] if isinstance(key[0], (str, int)) else repr(key[0])
        return Image(name=name, data=image), key
    what = type(element).__name__ if not key else f"a pair with {type(image).__name__}"
    raise TypeError(
        f"an element is {what}: Classify takes paths (str), or pairs of a key and a path or the bytes of a file; the "
        f"element is {reprlib.repr(element)}"
    )
