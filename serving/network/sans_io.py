"""Operations: what a client does, separate from how its calls are made.

An operation is a generator. It yields each step that has to wait for something (a call to the server, a pause, blocking
work, another caller), is sent the step's result, and returns its own value. `drive` runs one in a thread, `drive_async`
on an event loop; so requests, checks and retries are written once for both.
"""

from collections.abc import Awaitable, Callable, Generator
from concurrent.futures import Future
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")


class Call(NamedTuple):
    """A call to the server; its result is the answer's bytes."""

    method: str
    """Service and method, such as `PredictionService/Predict`."""
    request: bytes


class Pause(NamedTuple):
    """Some seconds in which nothing is done."""

    seconds: float


class Work(NamedTuple):
    """A function that blocks, such as one that reads files or decodes; its result is the function's."""

    function: Callable[[], Any]
    waits: bool = False
    """Does it wait for a disk or a network? If not, it keeps a processor busy, and ends soon."""


class Join(NamedTuple):
    """Waits for what another caller has begun; its result, or error, is the future's.

    The future is marked as running, as who gives up waiting must not cancel it for the others.
    """

    future: Future[Any]


Step = Call | Pause | Work | Join
Operation = Generator[Step, Any, T]


def drive(operation: Operation[T], perform: Callable[[Step], Any]) -> T:
    """The value of an operation whose steps are performed one after the other in this thread.

    Args:
      operation: not started yet.
      perform: does a step; its error is raised in the operation, at the step.
    """
    try:
        step = next(operation)
        while True:
            try:
                result = perform(step)
            except BaseException as error:
                step = operation.throw(error)
            else:
                step = operation.send(result)
    except StopIteration as end:
        value: T = end.value
        return value


async def drive_async(operation: Operation[T], perform: Callable[[Step], Awaitable[Any]]) -> T:
    """Does what `drive` does, on an event loop; a cancellation is raised in the operation, too."""
    try:
        step = next(operation)
        while True:
            try:
                result = await perform(step)
            except BaseException as error:
                step = operation.throw(error)
            else:
                step = operation.send(result)
    except StopIteration as end:
        value: T = end.value
        return value
