"""Parses a server's address as users write it, and suggests the right spelling of a wrong one."""

import ipaddress
import re
import shlex

from serving.errors import UsageError

DEFAULT_PORT = 8500
"""TensorFlow Serving's gRPC port."""
_REST_PORT = 8501
_SCHEMES = ("unix:", "unix-abstract:", "dns:", "ipv4:", "ipv6:")
"""gRPC's own ways of naming a target."""
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?|\[[0-9A-Fa-f:.]+(%\w+)?\]")
_SAFE = ("https", "grpcs", "tls", "ssl")
"""Schemes of a URL that say TLS."""


def target_of(address: str) -> str:
    """gRPC's target: a name resolves to all its addresses, so a headless service is balanced by the client.

    Args:
      address: HOST:PORT, several IP:PORT with commas, dns:///HOST:PORT, or unix:/PATH.

    Raises:
      UsageError: it is none of these; the message has the spelling that may be meant.
    """
    if not isinstance(address, str):
        raise UsageError(f"`server` must be text such as localhost:{DEFAULT_PORT}, not {address!r}")
    if address.startswith(_SCHEMES):
        _check_target(address)
        return address
    parts = address.split(",")
    for part in parts:
        _check(part, address)
    kinds = {_kind(part) for part in parts}
    if len(parts) > 1 and (len(kinds) > 1 or None in kinds):
        raise UsageError(
            f"`server` {address}: of several addresses each must be IP:PORT, all of one kind; a name with several "
            "addresses needs no list"
        )
    return f"{kinds.pop() or 'dns:///'}{address}"


def hosts_of(target: str) -> list[tuple[str, int]]:
    """Names or IP addresses in a target of gRPC, with their ports; none for a Unix socket."""
    if target.startswith("unix"):
        return []
    pairs = [part.rpartition(":") for part in re.sub(r"^\w+:(//[^/]*/)?", "", target).split(",")]
    return [(host.strip("[]"), int(port)) for host, _, port in pairs]


def is_loopback(host: str) -> bool:
    """Is it this machine's own?"""
    try:
        address = ipaddress.ip_address(host)
        return address.is_loopback or address.is_unspecified
    except ValueError:
        return f".{host.lower().rstrip('.')}".endswith(".localhost")


def _check_target(target: str) -> None:
    scheme, _, rest = target.partition(":")
    if scheme == "unix":
        if not rest.strip("/"):
            raise UsageError(f"`server` {target}: expected a socket's path, for example unix:/run/serving.sock")
    elif scheme != "unix-abstract":
        for part in re.sub(r"^//[^/]*/", "", rest).split(","):
            _check(part, target)


def _check(part: str, address: str) -> None:
    host, _, port = part.rpartition(":")
    if _HOST.fullmatch(host) and re.fullmatch(r"[0-9]{1,5}", port) and 0 < int(port) < 65536:
        return
    shown = re.sub(r"[^/,\s]*@", "***@", address)  # there may be a password before it
    meant = _meant(re.sub(r":?\s+:?", ":", part.strip()))
    hint = f"; do you mean `server` {meant}?" if meant else f", for example localhost:{DEFAULT_PORT}"
    raise UsageError(f"`server` {shlex.quote(shown)}: expected HOST:PORT, and a port of 1 to 65535{hint}")


def _meant(text: str) -> str:
    """The address in a URL, or in one that lacks its port or brackets; "" where it can't be told."""
    scheme, found, rest = text.partition("://")
    text = re.split(r"[/?#]", rest if found else text, maxsplit=1)[0].rpartition("@")[2].strip()
    host, _, port = text.rpartition(":")
    if not re.fullmatch(r"[0-9]+", port) or not host:
        host, port = text.rstrip(":"), ""
    if _is_ip6(text) and not _is_ip6(host):
        host, port = text, ""
    if _is_ip6(host):
        host = f"[{host}]"
    host = _in_ascii(host)
    if not _HOST.fullmatch(host):
        return ""
    sensible = re.fullmatch(r"[0-9]{1,5}", port) and 0 < int(port) < 65536 and int(port) != _REST_PORT
    number = int(port) if sensible else DEFAULT_PORT
    return f"{host}:{number}" + (" `tls`" if scheme.lower() in _SAFE and found else "")


def _in_ascii(host: str) -> str:
    try:
        return host if host.isascii() else host.encode("idna").decode()
    except UnicodeError:
        return ""


def _is_ip6(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).version == 6
    except ValueError:
        return False


def _kind(part: str) -> str | None:
    """gRPC's scheme for an IP address."""
    try:
        return f"ipv{ipaddress.ip_address(part.rpartition(':')[0].strip('[]')).version}:"
    except ValueError:
        return None
