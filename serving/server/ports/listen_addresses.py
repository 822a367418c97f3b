"""The addresses that a server listens on: how they are written, and what stands in their way, before they are bound."""

import errno
import os
import socket
import stat

from serving.server.rpc.status_error import Code, StatusError, invalid_argument

_MAX_SOCKET_PATH = 107  # bytes, the system's limit


def bracketed(host: str) -> str:
    """A host as it stands before `:PORT`; IPv6 addresses have brackets there."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def reachable(host: str) -> str:
    """A host, ready for a `:PORT`, that a client can use for a server that is bound to `host`."""
    return {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(bracketed(host), bracketed(host))


def family(host: str) -> socket.AddressFamily:
    """The family of the first address of a host.

    Raises:
      OSError: it has none.
    """
    return socket.getaddrinfo(host.strip("[]"), None, type=socket.SOCK_STREAM)[0][0]


def check_port(host: str, port: int) -> None:
    """Tells of a host that isn't this machine's, and of a port in use. Port 0 is any free one.

    Raises:
      StatusError: INVALID_ARGUMENT if it is the host's fault, UNAVAILABLE if it is the port's.
    """
    try:
        with socket.socket(family(host), socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host.strip("[]"), port))
    except OSError as error:
        reason = error.strerror or str(error)
        if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
            raise invalid_argument(f"{host} is not an address of this machine ({reason})") from error
        raise StatusError(Code.UNAVAILABLE, f"can't listen on {bracketed(host)}:{port} ({reason})") from error


def check_socket(path: str) -> None:
    """Tells of a path where no Unix socket can be made. A socket that nobody listens on any more is replaced.

    Raises:
      StatusError: INVALID_ARGUMENT if it is the path's fault, UNAVAILABLE if another server listens there.
    """
    length = len(os.fsencode(path))
    if length > _MAX_SOCKET_PATH:
        raise invalid_argument(f"{path} is too long for a Unix socket: {length} bytes of {_MAX_SOCKET_PATH}")
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        raise invalid_argument(f"{path} can't be made: no folder {folder}")
    if not os.path.lexists(path):
        return
    if not stat.S_ISSOCK(os.lstat(path).st_mode):
        raise invalid_argument(f"{path} exists already, and is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        if probe.connect_ex(path) == 0:
            raise StatusError(Code.UNAVAILABLE, f"another server listens on {path}")
