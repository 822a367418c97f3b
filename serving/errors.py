"""What can go wrong, as a caller asks about it.

FlowImagesError                 every error that we raise for a user; `exit_code` is the command's
├── UsageError                  a wrong flag, path or file: the message names it and the fix (2)
├── ContractError               the model's contract is missing, unknown or not kept by the server (1)
└── ServingError                a call to a server failed (1); `target` is the address asked
    ├── InvalidRequest          it would be refused again: wrong input, or a picture that breaks the graph
    │   ├── RequestTooLarge     the message is over a size limit: ask for fewer rows
    │   └── MalformedAnswer     the answer lacks rows, outputs or bytes: fewer rows may be answered
    ├── ModelNotFound           no such model or version, or no longer
    ├── AccessDenied            credentials, or the server's certificate, are missing or refused
    ├── Unsupported             the server does not know the call
    ├── ClientClosed            the client was closed before the answer came
    ├── WrongAddress            what listens there speaks no gRPC, or no name has such a form (2)
    └── Transient               it may succeed later, so the run can be continued (75)
        ├── ServerUnavailable   not reachable, restarting, or its queue is full
        ├── ServerBusy          out of threads or memory for now
        └── DeadlineExceeded    no answer in time
"""

import contextlib
import re
from collections.abc import Iterator

import grpc

EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_OVER_LIMIT, EXIT_RESUMABLE = 0, 1, 2, 3, 75


class FlowImagesError(Exception):
    """Base of all errors meant for a user: one sentence or a few, no traceback needed."""

    exit_code = EXIT_FAILED

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class UsageError(FlowImagesError):
    """A wrong flag, path or input file; nothing was done."""

    exit_code = EXIT_USAGE


class ContractError(FlowImagesError):
    """The model's contract is missing, unknown to this version, or not kept by the server."""


class ServingError(FlowImagesError):
    """A call to a server failed; `args` is (message, target)."""

    def __str__(self) -> str:
        return f"{self.args[0]} (asked {self.args[1]})" if len(self.args) > 1 else super().__str__()


class InvalidRequest(ServingError):
    """The server, or our own check before sending, refuses this request; asking again would not help."""


class RequestTooLarge(InvalidRequest):
    """The message is over the server's or the client's size limit; fewer rows may fit."""


class MalformedAnswer(InvalidRequest):
    """The answer is not one to the request: rows, outputs or bytes are missing, or of another kind."""


class ModelNotFound(ServingError):
    """The server has no such model or version."""


class AccessDenied(ServingError):
    """Credentials are missing or refused, or the server's certificate is."""


class Unsupported(ServingError):
    """The server does not know the call."""


class WrongAddress(ServingError):
    """What listens at the address speaks no gRPC, or there can't be such an address."""

    exit_code = EXIT_USAGE


class ClientClosed(ServingError):
    """The client was closed, before the call or while it was in flight."""


class Transient(ServingError):
    """The call may succeed later."""

    exit_code = EXIT_RESUMABLE


class ServerUnavailable(Transient):
    """Not reachable, restarting, or its batching queue is full."""


class ServerBusy(Transient):
    """Out of threads, queue places or memory for now."""


class DeadlineExceeded(Transient):
    """No answer within the deadline."""


_BY_CODE: dict[grpc.StatusCode, type[ServingError]] = {
    grpc.StatusCode.CANCELLED: ServerUnavailable,
    # A handler that raised: of a server in Python, or of a proxy.
    grpc.StatusCode.UNKNOWN: InvalidRequest,
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.NOT_FOUND: ModelNotFound,
    grpc.StatusCode.ALREADY_EXISTS: ServingError,
    grpc.StatusCode.PERMISSION_DENIED: AccessDenied,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ServerBusy,
    grpc.StatusCode.FAILED_PRECONDITION: InvalidRequest,
    grpc.StatusCode.ABORTED: ServerUnavailable,
    grpc.StatusCode.OUT_OF_RANGE: InvalidRequest,
    grpc.StatusCode.UNIMPLEMENTED: Unsupported,
    # A failing kernel: with batching, another client's tensor of an unlike dtype ends here, too.
    grpc.StatusCode.INTERNAL: InvalidRequest,
    grpc.StatusCode.UNAVAILABLE: ServerUnavailable,
    grpc.StatusCode.DATA_LOSS: InvalidRequest,
    grpc.StatusCode.UNAUTHENTICATED: AccessDenied,
}
_TOO_LARGE = "message larger than max"
# A stream that a proxy broke off has INTERNAL or UNKNOWN like a failing kernel, but is nobody's picture's fault.
_CUT = ("RST_STREAM", "Stream removed", "unexpected EOS")
# A proxy's own deadline ran out: Envoy's words, and gRPC's for another's HTTP status.
_PROXY_DEADLINE = ("upstream request timeout", "header with status: 504")
_KERNEL = "[[{{node"
"""In the message of an operation of the model's graph."""
# Trying again would not help, although gRPC reports them as UNAVAILABLE like a server that is away.
_TLS = {
    "CERTIFICATE_VERIFY_FAILED": "the server's certificate is refused: renew it, or give its issuer with --tls-ca",
    "Hostname Verification": "the server's certificate is for another name: give it with --tls-server-name",
    "WRONG_VERSION_NUMBER": "the server does not speak TLS on this port: leave out --tls",
    "create security handshaker": "the PEM files of --tls-ca, --tls-cert and --tls-key can't be used",
}


_NO_GRPC = (
    "what listens there speaks no gRPC. It looks like a REST port; TensorFlow Serving's gRPC port is usually 8500"
)
_WEB_PAGE = re.compile(r"(?:HTTP status |http2 header with status: )(\d+)")
"""In the details where a web server answers."""
_PROXY = re.compile(r"HTTP proxy returned response code 4\d\d")
_CLOSED = ("Socket closed", "Connection reset by peer (104)")


def from_status(code: grpc.StatusCode, details: str, target: str) -> ServingError:
    """Our error for a gRPC status; where gRPC has one status for two things, its text tells them apart."""
    reason = _plain(details)
    message = f"{code.name}: {reason}"
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and _TOO_LARGE in details:
        return RequestTooLarge(details, target)
    if code is grpc.StatusCode.UNIMPLEMENTED and _KERNEL in details:
        return InvalidRequest(message, target)
    if _speaks_no_grpc(details):
        return WrongAddress(f"{_NO_GRPC} ({reason})", target)
    if code in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN) and any(text in details for text in _CUT):
        return ServerUnavailable(message, target)
    if code is grpc.StatusCode.UNAVAILABLE and any(text in details for text in _PROXY_DEADLINE):
        return DeadlineExceeded(f"{message} (a proxy's time-out, which may be shorter than --deadline)", target)
    if code is grpc.StatusCode.UNAVAILABLE:
        for text, hint in _TLS.items():
            if text in details:
                return AccessDenied(f"{hint} ({_reason(details)})", target)
        if "Misformatted domain name" in details:
            return WrongAddress("no name of a host has this form", target)
        if _PROXY.search(details):
            return AccessDenied(reason, target)
        if details.startswith(("failed to connect", "connections to all")) and details.endswith(_CLOSED):
            message += "; if it is up, it may want --tls, or a client certificate (--tls-cert)"
    return _BY_CODE[code](message, target)


def _speaks_no_grpc(details: str) -> bool:
    """Is the answer one of a web server, or of something else? One of 500 and above may be a proxy's whose server is
    away."""
    page = _WEB_PAGE.search(details)
    return int(page[1]) < 500 if page else "Expected SETTINGS frame" in details


def _plain(details: str) -> str:
    """gRPC's details without what it says of its own parts, such as the policy that found no connection."""
    if unresolved := re.match(r"errors resolving (\S+): .*?([^:\]]+)\]", details, re.DOTALL):
        return f"the name of {unresolved[1]} can't be resolved:{unresolved[2]}"
    last = re.search(r"last error: \w+: (?:ip\S+: |unix:\S+: )?(.*)", details, re.DOTALL)
    return last[1].removeprefix("Failed to connect to remote host: ") if last else details


def _reason(details: str) -> str:
    """The part of gRPC's long message that says why a handshake failed."""
    return details.rpartition("OPENSSL_internal:")[2].removesuffix(": OK") or details


@contextlib.contextmanager
def translated(target: str) -> Iterator[None]:
    """Turns gRPC errors raised in the block into ours; the original stays as `__cause__`."""
    try:
        yield
    except grpc.RpcError as error:
        raise from_status(error.code(), error.details() or "", target) from error
