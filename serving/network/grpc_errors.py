"""What gRPC says of a failed call, as an error of `serving.errors`."""

import contextlib
import re
from collections.abc import Iterator

import grpc

from serving.errors import (
    AccessDenied,
    DeadlineExceeded,
    InvalidRequest,
    ModelNotFound,
    RequestTooLarge,
    ServerBusy,
    ServerUnavailable,
    ServingError,
    Unsupported,
    WrongAddress,
)

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
# A stream that a proxy broke off has INTERNAL or UNKNOWN like a failing kernel, but is not an image's fault.
_CUT = ("RST_STREAM", "Stream removed", "unexpected EOS")
# A proxy's own deadline ran out: Envoy's words, and gRPC's for another's HTTP status.
_PROXY_DEADLINE = ("upstream request timeout", "header with status: 504")
_KERNEL = "[[{{node"
"""Part of the message of an operation in the model's graph."""
# Trying again would not help, although gRPC reports them as UNAVAILABLE like a server that is away.
_TLS = {
    "CERTIFICATE_VERIFY_FAILED": "the server's certificate is refused: renew it, or give its issuer with `tls.ca`",
    "Hostname Verification": "the server's certificate is for another name: give it with `tls.server_name`",
    "WRONG_VERSION_NUMBER": "the server does not speak TLS on this port: leave out `tls`",
    "create security handshaker": "the PEM files of `tls.ca`, `tls.cert` and `tls.key` can't be used",
}


_NO_GRPC = (
    "the program that listens there does not speak gRPC. It looks like a REST port; TensorFlow Serving's gRPC port is "
    "usually 8500"
)
_WEB_PAGE = re.compile(r"(?:HTTP status |http2 header with status: )(\d+)")
"""Matches the details of an error where a web server answers."""
_PROXY = re.compile(r"HTTP proxy returned response code 4\d\d")
_REFUSED = "Connection refused"
_CLOSED = ("Socket closed", "Connection reset by peer (104)")


def from_status(code: grpc.StatusCode, details: str, target: str) -> ServingError:
    """Our error for a gRPC status; where gRPC has one status for two things, its text tells them apart."""
    reason = _plain(details)
    message = f"{code.name}: {reason}"
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and _TOO_LARGE in details:
        return RequestTooLarge(details, target, code)
    if code is grpc.StatusCode.UNIMPLEMENTED and _KERNEL in details:
        return InvalidRequest(message, target, code)
    if _speaks_no_grpc(details):
        return WrongAddress(f"{_NO_GRPC} ({reason})", target, code)
    if code in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN) and any(text in details for text in _CUT):
        return ServerUnavailable(message, target, code)
    if code is grpc.StatusCode.UNAVAILABLE and any(text in details for text in _PROXY_DEADLINE):
        return DeadlineExceeded(f"{message} (a proxy's time-out, which may be shorter than `deadline_s`)", target, code)
    if code is grpc.StatusCode.UNAVAILABLE:
        for text, hint in _TLS.items():
            if text in details:
                return AccessDenied(f"{hint} ({_reason(details)})", target, code)
        if "Misformatted domain name" in details:
            return WrongAddress("a host can't have such a name", target, code)
        if _PROXY.search(details):
            return AccessDenied(reason, target, code)
        if details.startswith(("failed to connect", "connections to all")) and details.endswith(_CLOSED):
            message += "; if it is up, it may want `tls`, or a client certificate (`tls.cert`)"
        if reason == _REFUSED:
            message += " (nothing listens there: is the server running? A lower `patience_s` gives up earlier)"
    return _BY_CODE[code](message, target, code)


def _speaks_no_grpc(details: str) -> bool:
    """Is the answer one of a web server, or of something else?

    One of 500 and above may be a proxy's whose server is away.
    """
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
