"""Which proxy gRPC goes through, as it decides itself: `doc/environment_variables.md` of gRPC core.

The first of three variables that has a value counts, in small letters only; a host is left out by the end of its name,
or by a network that it is in.
"""

import ipaddress
import os
import urllib.parse
from typing import NamedTuple

from serving.network.server_address import hosts_of, is_loopback

_VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy")
_EXCEPTIONS = ("no_grpc_proxy", "no_proxy")


class Proxy(NamedTuple):
    """A proxy, and the variable that names it."""

    variable: str
    url: str
    """Without user and password."""
    exceptions: str
    """The variable that can leave a host out."""

    def __str__(self) -> str:
        return (
            f"through the proxy {self.url} of the variable {self.variable}; {self.exceptions}=HOST in the environment "
            "goes direct"
        )


def proxy_for(target: str) -> Proxy | None:
    """The proxy that gRPC would ask for a target, if any."""
    variable = next((name for name in _VARIABLES if os.environ.get(name)), None)
    hosts = [host for host, _ in hosts_of(target)]
    if variable is None or not hosts:
        return None
    url = urllib.parse.urlsplit(os.environ[variable])
    if url.scheme != "http" or not url.hostname:  # gRPC goes direct then, too
        return None
    exceptions = next((name for name in _EXCEPTIONS if os.environ.get(name)), _EXCEPTIONS[1])
    left_out = [entry.strip() for entry in os.environ.get(exceptions, "").split(",")]
    if any(_matches(host, entry) for host in hosts for entry in left_out if entry):
        return None
    return Proxy(variable, f"http://{url.netloc.rpartition('@')[2]}", exceptions)


def goes_direct(target: str) -> bool:
    """Must no proxy be used, whatever the variables say?

    A proxy can't reach this machine's own addresses, and gRPC would send it a list of addresses as if that were a name.
    """
    hosts = [host for host, _ in hosts_of(target)]
    return len(hosts) > 1 or all(map(is_loopback, hosts))


def _matches(host: str, entry: str) -> bool:
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return host.lower().endswith(entry.lower())
