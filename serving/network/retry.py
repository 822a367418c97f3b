"""Retries: how often and how long (`RetryPolicy`), and the one loop that makes them.

Backoff and jitter: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015. The budget is a
token bucket as in gRPC's retry throttling (gRFC A6): an overloaded server is not buried under retries.
"""

import dataclasses
import random
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Self, TypeVar

from serving.console.option_fields import Options, option, options_class
from serving.console.waiting import Waiting
from serving.errors import DeadlineExceeded, InvalidRequest, RequestTooLarge, StorageUnavailable, Transient
from serving.network.sans_io import Operation, Pause, Step, drive

T = TypeVar("T")

MAX_PATIENCE_S = 30 * 86_400


@options_class
class Timeouts(Options, group="Limits"):
    """How long to wait for a server."""

    # A first request may wait for a GPU's warm-up.
    deadline_s: float = option(
        "Seconds that one request may take.",
        default=60.0,
        flag="--deadline",
        metavar="SECONDS",
        least=0.001,
        most=86_400,
        is_recorded=True,
    )
    # A server that restarts and loads its model is back within.
    patience_s: float = option(
        "Seconds to go on trying while the server is away or overloaded.",
        default=300.0,
        flag="--patience",
        metavar="SECONDS",
        least=0,
        most=MAX_PATIENCE_S,
        is_recorded=True,
    )

    @property
    def retry(self) -> "RetryPolicy":
        """The way of retrying that keeps to these times."""
        return RetryPolicy(deadline_s=self.deadline_s, patience_s=self.patience_s)


@options_class
class RetryPolicy(Timeouts):
    """How one call is retried while its error is `Transient`; waits are exponential with full jitter.

    `deadline_s` is the time of one try, `patience_s` that from the first try to the last.
    """

    first_delay_s: float = option("Seconds before the first retry.", default=0.2, flag="", least=0, most=3_600)
    max_delay_s: float = option("Seconds before any retry, at most.", default=10.0, flag="", least=0, most=3_600)
    # A server that is away for the whole patience costs about 70.
    budget: float = option(
        "Retries that a client has at the start, and at most, for each call that may be under way at once.",
        default=100,
        flag="",
        least=0,
    )
    refund: float = option(
        "What each success puts back: with a half, up to a third of all calls may be retries for ever, and no more.",
        default=0.5,
        flag="",
        least=0,
    )

    def by_many(self, callers: int) -> Self:
        """The policy for several callers at once: while a server is away, each of them spends retries of its own."""
        return dataclasses.replace(self, budget=self.budget * callers)


def transient(error: BaseException) -> bool:
    """May another try succeed?"""
    return isinstance(error, Transient)


def missed(error: BaseException) -> bool:
    """Is it a missed deadline?"""
    return isinstance(error, DeadlineExceeded)


def transient_in_time(error: BaseException) -> bool:
    """Transient, except a missed deadline: for a caller that has to see each of these."""
    return transient(error) and not missed(error)


def repeat_rejected(operation: Callable[[], Operation[T]], attempts: Callable[[], int] = lambda: 10) -> Operation[T]:
    """The value of an operation that is begun again after a refusal, as that may not be its own fault.

    Where a server batches requests together, another client's bad one can fail ours.

    Args:
      operation: begins it.
      attempts: how often at most; asked after each refusal, as the caller may learn meanwhile whether other requests
        cause it.

    Raises:
      InvalidRequest: the last refusal; RequestTooLarge at once, as size is the request's own.
    """

    def pause_after(failure: _Failure) -> float | None:
        is_final = not isinstance(failure.error, InvalidRequest) or isinstance(failure.error, RequestTooLarge)
        return None if is_final or failure.attempt >= attempts() else _jittered(failure.attempt, 0.1, 1.0)

    return _repeat(operation, pause_after)


def retry_rejected(
    call: Callable[[], T], attempts: Callable[[], int] = lambda: 10, stop: threading.Event | None = None
) -> T:
    """`repeat_rejected` for a function, in this thread; `stop`, when set, ends the waits between."""
    return drive(repeat_rejected(lambda: _call(call), attempts), _pausing(stop or threading.Event()))


class _Failure(NamedTuple):
    """A try that failed."""

    error: Exception
    attempt: int
    """How many tries have failed, with this one."""
    tried_s: float
    """Seconds since the first try began."""


def _repeat(operation: Callable[[], Operation[T]], pause_after: Callable[[_Failure], float | None]) -> Operation[T]:
    """Runs an operation until it succeeds, or until `pause_after` gives no pause before another try."""
    started, attempt = time.monotonic(), 0
    while True:
        try:
            return (yield from operation())
        except Exception as error:
            attempt += 1
            pause_s = pause_after(_Failure(error, attempt, time.monotonic() - started))
            if pause_s is None:
                raise
        yield Pause(pause_s)


def _jittered(attempt: int, first_s: float, most_s: float) -> float:
    """Seconds to wait after so many tries: exponential backoff with full jitter."""
    return random.uniform(0, min(most_s, first_s * 2.0 ** min(attempt - 1, 1000)))


def _call(function: Callable[[], T]) -> Operation[T]:
    """A function as an operation without steps."""
    yield from ()
    return function()


def _pausing(stop: threading.Event) -> Callable[[Step], Any]:
    """Performs the steps of an operation that only pauses."""

    def perform(step: Step) -> None:
        if isinstance(step, Pause):
            stop.wait(step.seconds)

    return perform


class RetryBudget:
    """Tokens that retries cost and successes give back; safe to share between threads."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._tokens = float(policy.budget)
        self._policy = policy
        self._lock = threading.Lock()

    def spend(self) -> bool:
        """Takes a token for a retry; False if there is none."""
        with self._lock:
            if self._tokens < 1:
                return False
            self._tokens -= 1
            return True

    def refund(self) -> None:
        """Puts back a part of a token after a success."""
        with self._lock:
            self._tokens = min(self._policy.budget, self._tokens + self._policy.refund)


class Retrier:
    """Calls a function until it succeeds, fails for good, or patience, budget or the stop event end it."""

    def __init__(
        self,
        policy: RetryPolicy,
        stop: threading.Event | None = None,
        waiting: Waiting | None = None,
        retried: Callable[[BaseException], bool] = transient,
    ) -> None:
        """Makes no call yet.

        Args:
          policy: patience, waits and budget.
          stop: when set, ends the waits between tries.
          waiting: tells the user what is waited for; by default only after failed tries.
          retried: says after which errors it is tried again.
        """
        self._policy = policy
        self._budget = RetryBudget(policy)
        self._stop = stop or threading.Event()
        self._retried = retried
        self._retries = 0
        self._waiting = waiting or Waiting("", policy.patience_s)

    @property
    def retries(self) -> int:
        """Retries made so far, for metrics."""
        return self._retries

    @property
    def patience_s(self) -> float:
        """The policy's."""
        return self._policy.patience_s

    def __call__(
        self, call: Callable[[], T], patience: Callable[[], float] | None = None, waiting: Waiting | None = None
    ) -> T:
        """A function's value, in this thread; as `repeat`."""
        return drive(self.repeat(lambda: _call(call), patience, waiting), _pausing(self._stop))

    def once(self, operation: Callable[[], Operation[T]], waiting: Waiting | None = None) -> Operation[T]:
        """An operation's value, by one try; the user is told if it takes long."""
        with (waiting or self._waiting).call():
            return (yield from operation())

    def repeat(
        self,
        operation: Callable[[], Operation[T]],
        patience: Callable[[], float] | None = None,
        waiting: Waiting | None = None,
    ) -> Operation[T]:
        """An operation's value, of a single call, of which the user is told if it takes long; as `repeat_all`."""
        return self.repeat_all(lambda: self.once(operation, waiting), patience, waiting)

    def repeat_all(
        self,
        operation: Callable[[], Operation[T]],
        patience: Callable[[], float] | None = None,
        waiting: Waiting | None = None,
    ) -> Operation[T]:
        """An operation's value.

        Args:
          operation: begins it, for each try. It may be made of several calls.
          patience: seconds to go on trying, asked for after each failed try; None for the policy's.
          waiting: tells the user what this operation waits for; None for that of all.

        Raises:
          Transient: the last error, when retrying ended; it says how long was tried.
          Exception: at once, if it is not to be retried.
        """
        told = waiting or self._waiting
        value = yield from _repeat(operation, lambda failure: self._pause_after(failure, patience, told))
        self._budget.refund()
        return value

    def _pause_after(self, failure: _Failure, patience: Callable[[], float] | None, waiting: Waiting) -> float | None:
        """Seconds until the next try; None where there is none. The error then says how long was tried."""
        error, attempt, tried_s = failure
        pause_s = _jittered(attempt, self._policy.first_delay_s, self._policy.max_delay_s)
        if isinstance(error, StorageUnavailable):
            pause_s += error.retry_after_s  # HTTP's `Retry-After`
        patience = patience or (lambda: self._policy.patience_s)
        may_go_on = self._retried(error) and tried_s + pause_s < patience() and not self._stop.is_set()
        if not may_go_on or not self._budget.spend():
            if attempt > 1 and isinstance(error, Transient):
                error.add_tried(tried_s)
            return None
        self._retries += 1
        # A single failed try is common; the user is told from the second one in a row.
        if attempt > 1:
            waiting.refused(error.args[0], time.monotonic() - tried_s)
        return pause_s
