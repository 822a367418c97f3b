"""The one retry loop: exponential backoff with full jitter, and a budget over all calls.

Backoff and jitter: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015. The budget is a
token bucket as in gRPC's retry throttling (gRFC A6): an overloaded server is not buried under retries.
"""

import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import tenacity

from serving.errors import DeadlineExceeded, InvalidRequest, RequestTooLarge, StorageUnavailable, Transient
from serving.operations import Operation, Pause, Step, drive
from serving.options import RetryPolicy
from serving.waiting import Waiting

T = TypeVar("T")


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
    return _repeat(
        operation,
        tenacity.Retrying(
            retry=tenacity.retry_if_exception(
                lambda error: isinstance(error, InvalidRequest) and not isinstance(error, RequestTooLarge)
            ),
            wait=tenacity.wait_random_exponential(multiplier=0.1, max=1.0),
            stop=lambda state: state.attempt_number >= attempts(),
            reraise=True,
        ),
    )


def retry_rejected(
    call: Callable[[], T], attempts: Callable[[], int] = lambda: 10, stop: threading.Event | None = None
) -> T:
    """`repeat_rejected` for a function, in this thread; `stop`, when set, ends the waits between."""
    return drive(repeat_rejected(lambda: _call(call), attempts), _pausing(stop or threading.Event()))


def _repeat(operation: Callable[[], Operation[T]], loop: tenacity.Retrying) -> Operation[T]:
    """Runs an operation until the loop ends; the pauses of the loop become steps."""
    pauses: list[float] = []
    loop.sleep = pauses.append
    for attempt in loop:
        while pauses:
            yield Pause(pauses.pop())
        with attempt:
            return (yield from operation())
    raise AssertionError("the loop ends with a value or an error")


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


class _BudgetSpent(tenacity.stop.stop_base):
    def __init__(self, budget: RetryBudget) -> None:
        self._budget = budget

    def __call__(self, retry_state: tenacity.RetryCallState) -> bool:
        return not self._budget.spend()


class _PatienceSpent(tenacity.stop.stop_base):
    """Ends the tries where the next one would come too late."""

    def __init__(self, patience: Callable[[], float]) -> None:
        self._patience = patience

    def __call__(self, retry_state: tenacity.RetryCallState) -> bool:
        return (retry_state.seconds_since_start or 0.0) + retry_state.upcoming_sleep >= self._patience()


class _AskedWait(tenacity.wait.wait_base):
    """Seconds that the answer to the last try asks to wait, which is HTTP's `Retry-After`."""

    def __call__(self, retry_state: tenacity.RetryCallState) -> float:
        error = retry_state.outcome.exception() if retry_state.outcome else None
        return error.retry_after_s if isinstance(error, StorageUnavailable) else 0.0


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
        policy, started, told = self._policy, time.monotonic(), waiting or self._waiting
        loop = tenacity.Retrying(
            retry=tenacity.retry_if_exception(self._retried),
            wait=tenacity.wait_combine(
                tenacity.wait_random_exponential(multiplier=policy.first_delay_s, max=policy.max_delay_s),
                _AskedWait(),
            ),
            stop=tenacity.stop_any(
                _PatienceSpent(patience or (lambda: policy.patience_s)),
                tenacity.stop_when_event_set(self._stop),
                _BudgetSpent(self._budget),
            ),
            before_sleep=lambda state: self._count(state, told),
            reraise=True,
        )

        try:
            value = yield from _repeat(operation, loop)
        except Transient as error:
            if loop.statistics["attempt_number"] > 1 and _TRIED not in str(error.args[0]):
                error.args = (f"{error.args[0]}{_TRIED}{time.monotonic() - started:.0f} s", *error.args[1:])
            raise
        self._budget.refund()
        return value

    def _count(self, state: tenacity.RetryCallState, waiting: Waiting) -> None:
        self._retries += 1
        # A single failed try is common; the user is told from the second one in a row.
        error = state.outcome and state.outcome.exception()
        if state.attempt_number > 1 and error:
            waiting.refused(error.args[0], state.start_time)


_TRIED = "; tried for "
