"""How to reach a server and how patient to be: plain values, checked once."""

import dataclasses
import ipaddress
import os
from pathlib import Path

import grpc

from serving.errors import UsageError

DEFAULT_PORT = 8500
"""TensorFlow Serving's gRPC port."""
TOKEN_VARIABLE = "FLOW_IMAGES_TOKEN"
"""Environment variable of the bearer token: a flag would show in the process list."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TlsOptions:
    """TLS, and mTLS with a client certificate. Paths of PEM files."""

    ca: str | None = None
    """Certificates to trust; None for the system's."""
    cert: str | None = None
    key: str | None = None
    server_name: str | None = None
    """Name that the server's certificate is checked against, if it isn't the address's."""

    def __post_init__(self) -> None:
        if bool(self.cert) != bool(self.key):
            raise UsageError("a client certificate needs its key: give both --tls-cert and --tls-key")

    def credentials(self) -> grpc.ChannelCredentials:
        """Channel credentials of these files.

        Raises:
          UsageError: a file can't be read.
        """
        return grpc.ssl_channel_credentials(
            root_certificates=_read(self.ca, "--tls-ca"),
            private_key=_read(self.key, "--tls-key"),
            certificate_chain=_read(self.cert, "--tls-cert"),
        )


_SCHEMES = ("unix:", "dns:", "ipv4:", "ipv6:")
"""gRPC's own ways of naming a target."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Endpoint:
    """A model on a server."""

    address: str
    """HOST:PORT, several IP:PORT with commas, dns:///HOST:PORT, or unix:/PATH."""
    model_name: str
    version: int | None = None
    """Version to ask; None for the latest."""
    tls: TlsOptions | None = None

    def __post_init__(self) -> None:
        if not self.model_name:
            raise UsageError("the model's name is empty: give --model-name")
        if not self.address.startswith(_SCHEMES):
            for one in self.address.split(","):
                host, _, port = one.rpartition(":")
                if not host or not port.isdecimal() or int(port) > 65535:
                    raise UsageError(
                        f"--server {self.address}: expected HOST:PORT, for example localhost:{DEFAULT_PORT}"
                    )
            if "," in self.address and not self._literal:
                raise UsageError(
                    f"--server {self.address}: of several addresses each must be IP:PORT, all of one kind; a name "
                    "that stands for several needs no list"
                )

    @property
    def target(self) -> str:
        """gRPC target: names resolve to all their addresses, so a headless service is balanced by the client."""
        if self.address.startswith(_SCHEMES):
            return self.address
        return f"{self._literal or 'dns:///'}{self.address}"

    @property
    def _literal(self) -> str | None:
        """gRPC's scheme for IP addresses, if they all are of one version."""
        hosts = [one.rpartition(":")[0].strip("[]") for one in self.address.split(",")]
        try:
            versions = {ipaddress.ip_address(host).version for host in hosts}
        except ValueError:
            return None
        return f"ipv{versions.pop()}:" if len(versions) == 1 else None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RetryPolicy:
    """How one call is retried while its error is `Transient`; waits are exponential with full jitter."""

    patience_s: float = 300.0
    """Seconds from the first try to the last: a server that restarts and loads its model is back within."""
    first_delay_s: float = 0.2
    max_delay_s: float = 10.0
    deadline_s: float = 60.0
    """Seconds that one try may take; a first call may wait for a GPU's warm-up."""
    budget: int = 100
    """Retries in hand at the start and at most, over all calls of a client; for each call that may be under way at
    once. A server that is away for the whole patience costs about 70."""
    refund: float = 0.5
    """What each success puts back; so up to a third of all calls may be retries for ever, and no more."""

    def __post_init__(self) -> None:
        if self.deadline_s <= 0 or self.patience_s < 0:
            raise UsageError("--deadline must be above 0 and --patience at least 0 seconds")


def bearer_token(endpoint: Endpoint) -> str | None:
    """The bearer token of `FLOW_IMAGES_TOKEN`, if it is set. It is read where a channel is opened and kept nowhere.

    Raises:
      UsageError: the endpoint has no TLS, so anyone on the way could read it; or it is no token.
    """
    token = os.environ.get(TOKEN_VARIABLE, "").strip()  # one that is read from a file often ends with its line
    if not (token.isascii() and token.isprintable()):
        raise UsageError(f"the bearer token in {TOKEN_VARIABLE} has characters that can't be sent")
    if token and endpoint.tls is None:
        raise UsageError(f"the bearer token in {TOKEN_VARIABLE} is only sent over TLS: add --tls, or unset it")
    return token or None


def _read(path: str | None, flag: str) -> bytes | None:
    if path is None:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"{flag} {path}: {error.strerror}") from error
