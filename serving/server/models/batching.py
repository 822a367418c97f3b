"""Batching across requests with TensorFlow's own batch scheduler.

For each set of inputs and outputs that requests use, the part of the graph between them becomes a function, and a
`BatchFunction` node over it is added to the session's graph. Running that node queues the request; the scheduler runs
the function over many requests at once. What does not depend on the inputs (variables, tables) stays outside the
function and is captured.

| Condition | Code | Message |
| --- | --- | --- |
| no input | INVALID_ARGUMENT | `Batching Run() must have at least one input tensor` |
| scalar input | INVALID_ARGUMENT | `Batching Run() input tensors must have at least one dimension` |
| inputs of unlike row counts | INVALID_ARGUMENT | `Batching Run() input tensors must have equal 0th-dimension size` |
| larger than max_batch_size | INVALID_ARGUMENT | `Task size <n> is larger than maximum input batch size <m>` |
| queue full | UNAVAILABLE | `The batch scheduling queue to which this task was submitted is full; …` |
| unlike shapes in one batch, no padding | FAILED_PRECONDITION | `Tensors with name '<t>' from different tasks have …` |

It is more lenient than the binary, on purpose: zero rows run alone instead of hanging, a wrong dtype is refused before
it joins a batch, and when a kernel fails in a shared batch each request is run again alone, so that only the cause
fails. `strict_batching` is as strict as the binary.
"""

from __future__ import annotations

import dataclasses
import logging
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import types_pb2

from serving.process.cpus import usable_cpus
from serving.server.models import textprotos
from serving.server.models.graph_optimizer import quick_calls
from serving.server.models.servable import GraphSession
from serving.server.models.subgraph import Subgraph
from serving.server.rpc.status_error import Code, StatusError, invalid_argument
from serving.server.rpc.tensors import Array

log = logging.getLogger(__name__)
MAX_QUEUES = 100
"""Each costs nodes of the graph, and clients make them: one for each choice of outputs and, with padding, of ranks.
What would need a further one runs unbatched."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class BatchingOptions:
    """BatchingParameters, with TensorFlow Serving's defaults."""

    max_batch_size: int = 1000
    """Rows of a batch, and of one request unless splitting is on."""
    batch_timeout_micros: int = 0
    """Longest wait for a batch to fill."""
    max_enqueued_batches: int = 10
    num_batch_threads: int = dataclasses.field(default_factory=usable_cpus)
    thread_pool_name: str = "batch_threads"
    allowed_batch_sizes: tuple[int, ...] = ()
    pad_variable_length_inputs: bool = False
    enable_large_batch_splitting: bool = False
    max_execution_batch_size: int = 0
    """Rows of a batch when splitting is on; 0: max_batch_size."""

    def __post_init__(self) -> None:
        sizes, limit = self.allowed_batch_sizes, self.max_batch_size
        if sizes and sizes[-1] != limit:
            raise invalid_argument(
                "Last entry in allowed_batch_sizes must match max_batch_size; "
                f"last entry was {sizes[-1]}; expected {limit}"
            )
        if list(sizes) != sorted(set(sizes)) or (sizes and sizes[0] < 1):
            raise invalid_argument("allowed_batch_sizes entries must be monotonically increasing")
        for name in ("max_batch_size", "num_batch_threads", "max_enqueued_batches"):
            if getattr(self, name) < 1:
                raise invalid_argument(f"{name} must be at least 1; was {getattr(self, name)}")
        if self.batch_timeout_micros < 0:
            raise invalid_argument(f"batch_timeout_micros must be non-negative; was {self.batch_timeout_micros}")

    @property
    def largest_batch(self) -> int:
        """Rows of a full batch."""
        if not self.enable_large_batch_splitting:
            return self.max_batch_size
        return min(self.max_execution_batch_size or self.max_batch_size, self.max_batch_size)

    def scheduler_sizes(self) -> dict[str, Any]:
        """The BatchFunction attributes for the sizes.

        With splitting, the op takes its last allowed size as the largest batch and max_batch_size as the limit of a
        request, which TensorFlow Serving doesn't limit then.
        """
        if not self.enable_large_batch_splitting:
            return {"max_batch_size": self.max_batch_size, "allowed_batch_sizes": list(self.allowed_batch_sizes)}
        largest = self.largest_batch
        sizes = self.allowed_batch_sizes or range(1, largest + 1)
        return {
            "max_batch_size": 2**31 - 1,
            "allowed_batch_sizes": [*(size for size in sizes if size < largest), largest],
            "enable_large_batch_splitting": True,
        }

    @classmethod
    def from_file(cls, path: str) -> BatchingOptions:
        """Reads a BatchingParameters text proto; raises StatusError if it does not parse or make sense."""
        proto = textprotos.read(path, textprotos.BatchingParameters())
        values: dict[str, Any] = {}
        for field, value in proto.ListFields():
            if field.name == "allowed_batch_sizes":
                values[field.name] = tuple(value)
            else:
                values[field.name] = getattr(value, "value", value)
        return cls(**values)


def batch_rows(arrays: Sequence[Array]) -> int:
    """The rows of a request.

    Raises:
      StatusError: INVALID_ARGUMENT, see the table above, if its inputs have no such number in common.
    """
    if not arrays:
        raise invalid_argument("Batching Run() must have at least one input tensor")
    if any(array.ndim == 0 for array in arrays):
        raise invalid_argument("Batching Run() input tensors must have at least one dimension")
    if len({array.shape[0] for array in arrays}) > 1:
        raise invalid_argument("Batching Run() input tensors must have equal 0th-dimension size")
    return int(arrays[0].shape[0])


def task_too_large(rows: int, limit: int) -> StatusError:
    """The refusal of a request with more rows than `limit`, in TensorFlow Serving's words."""
    return invalid_argument(f"Task size {rows} is larger than maximum input batch size {limit}")


def queue_full(enqueued: int, limit: int) -> StatusError:
    """The refusal of a request when `limit` batches wait already: UNAVAILABLE, so that clients try again."""
    return StatusError(
        Code.UNAVAILABLE,
        "The batch scheduling queue to which this task was submitted is full; currently "
        f"{enqueued} batches enqueued and max_enqueued_batches is {limit}",
    )


def shape_clash(name: str) -> StatusError:
    """The refusal of requests that can't share a batch, because their tensors `name` differ beyond the rows."""
    return StatusError(
        Code.FAILED_PRECONDITION,
        f"Tensors with name '{name}' from different tasks have different shapes and padding is turned off. "
        "Set pad_variable_length_inputs to true, or ensure that all tensors with the same name have equal dimensions "
        "starting with the first dim.",
    )


def dtype_name(array: Array) -> str:
    """The runtime's name of the array's type: float, not float32."""
    return _name(tf.as_dtype(array.dtype if array.dtype != object else "string"))


class BatchingSession:
    """A `Runner` that puts a queue and a batch scheduler before a session.

    The session has no optimiser (`graph_optimizer.without_optimizer`): it would optimise every function under a
    queue's by itself, ten seconds for those that decode images. The queue's function is optimised as a whole in any
    case, at its first run.
    """

    def __init__(
        self, session: GraphSession, options: BatchingOptions, on_run: Callable[[], None] = lambda: None
    ) -> None:
        """Puts the queues before `session`; `on_run` is called for each run that goes through them."""
        self._session = session
        self._on_run = on_run
        self._options = options
        self._queues: dict[tuple[Any, ...], _Queue | None] = {}
        self._building = threading.Lock()

    def run(self, feeds: Mapping[str, Array], fetches: Sequence[str], timeout_s: float | None) -> list[Array]:
        """See `Runner.run`; and the table above."""
        names = sorted(feeds)
        arrays = [np.asarray(feeds[name]) for name in names]
        rows = batch_rows(arrays)
        self._check_dtypes(names, arrays, rows)
        alone = (feeds, fetches, timeout_s)
        if rows == 0:
            return self._session.run(*alone)
        self._on_run()
        fetched = sorted(set(fetches))  # the order of an output filter makes no queue of its own
        queue = self._queue(tuple(names), tuple(fetched), arrays)
        if queue is None:
            return self._session.run(*alone)
        try:
            outputs = self._session.run_outputs(dict(zip(queue.feeds, arrays, strict=True)), queue.fetches, timeout_s)
        except StatusError as error:
            refusal = _refusal(error, dict(zip(names, arrays, strict=True)))
            if refusal is not None:
                raise refusal from error
            # A kernel failed, perhaps on a batch-mate's rows: what this request gives alone is its answer.
            return self._session.run(*alone)
        by_name = dict(zip(fetched, outputs, strict=True))
        return [by_name[name] for name in fetches]

    def close(self) -> None:
        """Frees the session."""
        self._session.close()

    def _check_dtypes(self, names: Sequence[str], arrays: Sequence[Array], rows: int) -> None:
        for position, (name, array) in enumerate(zip(names, arrays, strict=True)):
            wanted, sent = _name(self._session.tensor(name).dtype.base_dtype), dtype_name(array)
            if sent != wanted:
                if rows > self._options.max_batch_size and not self._options.enable_large_batch_splitting:
                    raise task_too_large(rows, self._options.max_batch_size)
                raise invalid_argument(f"Expects arg[{position}] to be {wanted} but {sent} is provided")

    def _queue(self, names: tuple[str, ...], fetches: tuple[str, ...], arrays: Sequence[Array]) -> _Queue | None:
        """The queue for these tensors; None for a run outside of all queues."""
        # With padding, requests can share a batch only if their ranks are alike.
        ranks = tuple(array.ndim for array in arrays) if self._options.pad_variable_length_inputs else ()
        key = (names, fetches, ranks)
        if key not in self._queues:
            with self._building:
                if key not in self._queues and len(self._queues) < MAX_QUEUES:
                    self._queues[key] = self._build(names, fetches, ranks)
        return self._queues.get(key)

    def _build(self, names: Sequence[str], fetches: Sequence[str], ranks: Sequence[int]) -> _Queue | None:
        """A new queue; None if what lies between the tensors can't be made a function."""
        for name in fetches:
            self._session.tensor(name)  # raises what the request deserves
        label = f"queue_{len(self._queues)}"
        try:
            return _Queue(self._session, self._options, names, fetches, ranks, label)
        except (ValueError, TypeError, tf.errors.OpError):
            log.exception("Requests for %s are not batched", ", ".join(fetches))
            return None


def _name(dtype: tf.DType) -> str:
    """The runtime's name of a type: float, not float32."""
    return str(types_pb2.DataType.Name(dtype.as_datatype_enum)).removeprefix("DT_").lower()


class _Queue:
    """A BatchFunction node for one set of inputs and outputs."""

    def __init__(
        self,
        session: GraphSession,
        options: BatchingOptions,
        names: Sequence[str],
        fetches: Sequence[str],
        ranks: Sequence[int],
        label: str,
    ) -> None:
        inputs = [session.tensor(name) for name in names]
        body = Subgraph(session.graph, inputs, [session.tensor(name) for name in fetches])

        def computation(*batched: tf.Tensor) -> list[tf.Tensor]:
            if ranks:
                batched = tuple(_padded(x, t.dtype, rank) for x, t, rank in zip(batched, inputs, ranks, strict=True))
            return body.rebuild(batched)

        with session.graph.as_default():
            fed, queued = inputs, inputs
            if ranks:  # the signature's placeholders may be of another rank
                fed = [_placeholder(t.dtype, rank) for t, rank in zip(inputs, ranks, strict=True)]
                queued = [_as_rows(t, rank) for t, rank in zip(fed, ranks, strict=True)]
            # BatchFunction does not optimise the graph of its function, but a call within it that must not be inlined
            # is optimised as in eager mode: 20 % of the time of a MobileNetV2.
            inner = tf.function(computation, autograph=False, experimental_attributes={"_noinline": True})
            with quick_calls():
                function = tf.function(lambda *batched: inner(*batched), autograph=False).get_concrete_function(
                    *[tf.TensorSpec(None, t.dtype) for t in queued]
                )
            outputs = tf.raw_ops.BatchFunction(
                in_tensors=queued,
                captured_tensors=function.captured_inputs,
                f=function,
                num_batch_threads=options.num_batch_threads,
                batch_timeout_micros=options.batch_timeout_micros,
                max_enqueued_batches=options.max_enqueued_batches,
                **options.scheduler_sizes(),
                shared_name=options.thread_pool_name,
                batching_queue=label,
                Tout=[output.dtype for output in function.outputs],
            )
        session.extend()
        self.feeds = [t._as_tf_output() for t in fed]
        self.fetches = [output._as_tf_output() for output in outputs]


def _placeholder(dtype: tf.DType, rank: int) -> Any:
    return tf.compat.v1.placeholder(dtype, [None] * rank)


def _as_rows(tensor: Any, rank: int) -> Any:
    """One variant per row: rows of unlike sizes can then queue together."""
    if rank == 1:
        return tensor
    return tf.RaggedTensor.from_tensor(tensor, ragged_rank=rank - 1)._to_variant(batched_input=True)


def _padded(rows: Any, dtype: tf.DType, rank: int) -> Any:
    """The rows of `_as_rows` as one tensor, filled up with zeros to the largest."""
    if rank == 1:
        return rows
    return tf.RaggedTensor._from_variant(
        rows, dtype, output_ragged_rank=rank - 1, input_ragged_rank=rank - 2
    ).to_tensor()


_PLACE = re.compile(r"\s*\[\[\{?\{?(node )?BatchFunction\w*\}?\}?\]\]")


def _refusal(error: StatusError, sent: Mapping[str, Array]) -> StatusError | None:
    """The scheduler's own errors in TensorFlow Serving's words and codes; None for an error of the graph."""
    text = _PLACE.sub("", error.message)
    if text.startswith("Task size "):
        return StatusError(Code.INVALID_ARGUMENT, text)
    if text.startswith("The batch scheduling queue"):
        return StatusError(Code.UNAVAILABLE, text)
    if text.startswith("Dimensions of inputs should match"):
        # The text has but the two shapes: `shape[0] = [1,2] vs. shape[1] = [1,3]`.
        clashing = [name for name, array in sent.items() if f" = {list(array.shape)}".replace(", ", ",") in text]
        return shape_clash((clashing or list(sent))[0])
    if error.code in (Code.DEADLINE_EXCEEDED, Code.CANCELLED):
        return error
    if "0th dimension" in text or "0 dimensions" in text:
        return StatusError(Code.FAILED_PRECONDITION, _output_words(text))
    return None


def _output_words(text: str) -> str:
    if "0 dimensions" in text:
        return "Batched output tensor has 0 dimensions"
    return (
        "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of the input tensors"
    )
