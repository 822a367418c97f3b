"""The one error of the server, with TensorFlow's code; TensorFlow's codes and gRPC's are the same numbers."""

import enum

MESSAGE_LIMIT = 1024
"""Bytes of an error message that a gRPC status carries."""


class Code(enum.IntEnum):
    """Status codes, by the names that REST and the metrics show."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class StatusError(Exception):
    """A request, or a load, that ends in a status other than OK."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return f"{self.code.name}: {self.message}"


def invalid_argument(message: str) -> StatusError:
    """The refusal of a request that is wrong in itself, and would be refused again."""
    return StatusError(Code.INVALID_ARGUMENT, message)


def from_exception(error: BaseException) -> StatusError:
    """Any exception as a StatusError; TensorFlow's errors (`error_code`, `message`) keep their code and text."""
    if isinstance(error, StatusError):
        return error
    code = getattr(error, "error_code", None)
    if isinstance(code, int) and code in Code._value2member_map_:
        return StatusError(Code(code), str(getattr(error, "message", error)))
    if isinstance(error, MemoryError):
        return StatusError(Code.RESOURCE_EXHAUSTED, str(error) or "out of memory")
    return StatusError(Code.INTERNAL, f"{type(error).__name__}: {error}")


def truncated(message: str) -> str:
    """The message as gRPC carries it: cut at MESSAGE_LIMIT bytes, with a mark."""
    raw = message.encode("utf-8", "replace")
    if len(raw) <= MESSAGE_LIMIT:
        return message
    return raw[:MESSAGE_LIMIT].decode("utf-8", "ignore") + "...TRUNCATED"
