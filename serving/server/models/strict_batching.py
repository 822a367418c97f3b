"""Batching as TensorFlow Serving does it, its faults included: for --strict, in tests of clients.

Requests for the same inputs and outputs wait in one queue, whatever they hold, are joined row by row, run as one and
fail together:

| In one batch | All its requests get |
| --- | --- |
| a kernel fails | its error |
| unlike dtypes | INTERNAL `Tensor concat operation failed: …` |
| unlike shapes, no padding | FAILED_PRECONDITION `Tensors with name '<t>' from different tasks have …` |
| all deadlines passed in the queue | RESOURCE_EXHAUSTED `Run() timeout exceeded while waiting in batching queue` |
| no rows at all | nothing, until a request with rows joins them |
"""

import dataclasses
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from serving.server.models.batching import (
    BatchingOptions,
    batch_rows,
    dtype_name,
    queue_full,
    shape_clash,
    task_too_large,
)
from serving.server.models.servable import GraphSession
from serving.server.rpc.status_error import Code, StatusError, from_exception, invalid_argument
from serving.server.rpc.tensors import Array

_Feeds = Mapping[str, Array]
_Key = tuple[tuple[str, ...], tuple[str, ...]]
_MAX_PADDED_RANK = 6


@dataclasses.dataclass(eq=False)
class _Task:
    """A request, or a piece of one, in the queue."""

    feeds: _Feeds
    rows: int
    deadline: float
    """Monotonic time; infinity for none."""
    done: threading.Event = dataclasses.field(default_factory=threading.Event)
    outputs: Mapping[str, Array] = dataclasses.field(default_factory=dict)
    error: StatusError | None = None


@dataclasses.dataclass(eq=False)
class _Batch:
    started: float
    tasks: list[_Task] = dataclasses.field(default_factory=list)

    @property
    def rows(self) -> int:
        return sum(task.rows for task in self.tasks)


class StrictBatchingSession:
    """A `Runner` that puts queues and threads of its own before a session."""

    def __init__(
        self, session: GraphSession, options: BatchingOptions, stopped: threading.Event, on_run: Callable[[], None]
    ) -> None:
        """Puts the queues before `session`.

        Args:
          session: what runs the batches.
          options: of the queues.
          stopped: when set, requests that still wait are let go.
          on_run: called for each batch.
        """
        self._session = session
        self._options = options
        self._stopped = stopped
        self._on_run = on_run
        self._queues: dict[_Key, deque[_Batch]] = {}
        self._changed = threading.Condition()
        self._closed = False
        for _ in range(options.num_batch_threads):
            threading.Thread(target=self._work, name="strict-batching", daemon=True).start()

    def run(self, feeds: _Feeds, fetches: Sequence[str], timeout_s: float | None) -> list[Array]:
        """See `Runner.run`; and the table above."""
        arrays = {name: np.asarray(array) for name, array in feeds.items()}
        rows = batch_rows(list(arrays.values()))
        for name in fetches:
            self._session.tensor(name)
        deadline = float("inf") if timeout_s is None else time.monotonic() + timeout_s
        key = (tuple(sorted(arrays)), tuple(sorted(set(fetches))))
        tasks = self._enqueue(key, arrays, rows, deadline)
        for task in tasks:
            while not task.done.wait(0.2):
                if self._stopped.is_set():
                    raise StatusError(Code.CANCELLED, "The server stops")
        for task in tasks:
            if task.error is not None:
                raise task.error
        if len(tasks) == 1:
            return [tasks[0].outputs[name] for name in fetches]
        return [np.concatenate([task.outputs[name] for task in tasks]) for name in fetches]

    def close(self) -> None:
        """Ends the threads and frees the session."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._session.close()

    def _enqueue(self, key: _Key, feeds: _Feeds, rows: int, deadline: float) -> list[_Task]:
        splitting = self._options.enable_large_batch_splitting
        if rows > self._options.max_batch_size and not splitting:
            raise task_too_large(rows, self._options.max_batch_size)
        largest = self._options.largest_batch
        with self._changed:
            queue = self._queues.setdefault(key, deque())
            room = largest - queue[-1].rows if queue else 0
            sizes = [rows]
            if splitting and rows > (room or largest):
                sizes = [room] if room else []
                sizes += [min(largest, rows - start) for start in range(room, rows, largest)]
            new = len(sizes) - (1 if queue and sizes[0] <= room else 0)
            if len(queue) + new > self._options.max_enqueued_batches:
                raise queue_full(len(queue), self._options.max_enqueued_batches)
            tasks = []
            for start, size in zip(itertools.accumulate(sizes, initial=0), sizes, strict=False):
                piece = {name: array[start : start + size] for name, array in feeds.items()}
                tasks.append(_Task(piece, size, deadline))
                if not queue or queue[-1].rows + size > largest:
                    queue.append(_Batch(time.monotonic()))
                queue[-1].tasks.append(tasks[-1])
            self._changed.notify_all()
        return tasks

    def _work(self) -> None:
        while True:
            taken = self._next()
            if taken is None:
                return
            key, batch = taken
            try:
                self._process(key, batch)
            except Exception as error:
                for task in batch.tasks:
                    task.error = from_exception(error)
            for task in batch.tasks:
                task.done.set()

    def _next(self) -> tuple[_Key, _Batch] | None:
        """Waits for a batch that may run; None when all is over."""
        with self._changed:
            while not self._closed:
                if (taken := self._take()) is not None:
                    return taken
                self._changed.wait(self._pause_s())
        return None

    def _take(self) -> tuple[_Key, _Batch] | None:
        """The next batch that is full, or has waited long enough; of a queue's batches only the last one may grow."""
        for key, queue in self._queues.items():
            if queue and (len(queue) > 1 or self._due(queue[0]) <= time.monotonic()):
                return key, queue.popleft()
        return None

    def _due(self, batch: _Batch) -> float:
        if not batch.rows:
            return float("inf")
        full = batch.rows >= self._options.largest_batch
        return 0.0 if full else batch.started + self._options.batch_timeout_micros / 1e6

    def _pause_s(self) -> float | None:
        due = min((self._due(queue[0]) for queue in self._queues.values() if queue), default=float("inf"))
        return None if due == float("inf") else max(0.0, min(due - time.monotonic(), 3600.0))

    def _process(self, key: _Key, batch: _Batch) -> None:
        names, fetches = key
        left_s = max(task.deadline for task in batch.tasks) - time.monotonic()
        if left_s <= 0:
            raise StatusError(Code.RESOURCE_EXHAUSTED, "Run() timeout exceeded while waiting in batching queue")
        padding = next((size for size in self._options.allowed_batch_sizes if size >= batch.rows), batch.rows)
        padding -= batch.rows
        joined = {name: self._joined(name, [task.feeds[name] for task in batch.tasks], padding) for name in names}
        self._on_run()
        outputs = self._session.run(joined, fetches, None if left_s == float("inf") else left_s)
        for output in map(np.asarray, outputs):
            if output.ndim == 0:
                raise StatusError(Code.FAILED_PRECONDITION, "Batched output tensor has 0 dimensions")
            if output.shape[0] != batch.rows + padding:
                raise StatusError(
                    Code.FAILED_PRECONDITION,
                    "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of the "
                    "input tensors",
                )
        start = 0
        for task in batch.tasks:
            task.outputs = {
                name: output[start : start + task.rows] for name, output in zip(fetches, outputs, strict=True)
            }
            start += task.rows

    def _joined(self, name: str, arrays: Sequence[Array], padding: int) -> Array:
        if self._options.pad_variable_length_inputs:
            arrays = _padded(name, arrays)
        elif len({array.shape[1:] for array in arrays}) > 1:
            raise shape_clash(name)
        first = dtype_name(arrays[0])
        other = next((dtype_name(array) for array in arrays if dtype_name(array) != first), None)
        if other is not None:
            raise StatusError(
                Code.INTERNAL,
                "Tensor concat operation failed: INVALID_ARGUMENT: Cannot concatenate tensors that have different data "
                f"types. Got {first} and {other}.",
            )
        return np.concatenate([*arrays, *[arrays[-1][:1]] * padding])


def _padded(name: str, arrays: Sequence[Array]) -> list[Array]:
    """Each array filled up with zeros to the largest size of each dimension but the first."""
    if len({array.ndim for array in arrays}) > 1:  # the binary may abort
        raise StatusError(
            Code.FAILED_PRECONDITION, f"Tensors with name '{name}' from different tasks have different ranks"
        )
    if arrays[0].ndim > _MAX_PADDED_RANK:
        raise invalid_argument("Only tensors with rank from 1 to 6 can be padded.")
    largest = [max(sizes) for sizes in zip(*[array.shape[1:] for array in arrays], strict=True)]
    padded = []
    for array in arrays:
        missing = [(0, 0), *((0, size - own) for size, own in zip(largest, array.shape[1:], strict=True))]
        if any(after for _, after in missing) and not array.size:
            raise invalid_argument("Got empty tensor in batch of non-empty tensors.")
        padded.append(np.pad(array, missing, constant_values=b"" if array.dtype == object else 0))
    return padded
