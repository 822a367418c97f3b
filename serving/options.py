"""How to reach a server and how patient to be: plain values, checked once."""

import contextlib
import dataclasses
import math
import os
import ssl
from collections.abc import Iterator

import grpc

from serving.errors import UsageError
from serving.network.addresses import target_of
from serving.storage.local_file import TooLarge, read_file

MIN_DEADLINE_S, MAX_DEADLINE_S = 0.001, 86_400
MAX_PATIENCE_S = 30 * 86_400
MAX_DELAY_S = 3_600
_MAX_PEM_BYTES = 4 * 1024 * 1024
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
            raise UsageError("a client certificate needs its key: give both `tls.cert` and `tls.key`")

    def check(self) -> None:
        """Looks into the files.

        Raises:
          UsageError: a file can't be read or holds nothing of its kind; certificate and key don't belong together.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if self.ca:
            ca = _read(self.ca, "tls.ca") or b""
            with _pem_errors(f"`tls.ca` {self.ca}: no certificate in PEM form"):
                context.load_verify_locations(cadata=ca.decode())
        if self.cert and self.key:
            _read(self.cert, "tls.cert")
            _read(self.key, "tls.key")
            with _pem_errors(
                f"`tls.cert` {self.cert} and `tls.key` {self.key}: no certificate and its own key in PEM form, "
                "or the key has a password"
            ):
                context.load_cert_chain(self.cert, self.key, password="")

    def credentials(self) -> grpc.ChannelCredentials:
        """Channel credentials of these files.

        Raises:
          UsageError: a file can't be read.
        """
        return grpc.ssl_channel_credentials(
            root_certificates=_read(self.ca, "tls.ca"),
            private_key=_read(self.key, "tls.key"),
            certificate_chain=_read(self.cert, "tls.cert"),
        )


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
            raise UsageError("the model's name is empty: give `model_name`")
        target_of(self.address)

    @property
    def target(self) -> str:
        """gRPC's target; see `target_of`."""
        return target_of(self.address)


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
        for name, least, most in (
            ("deadline_s", MIN_DEADLINE_S, MAX_DEADLINE_S),
            ("patience_s", 0, MAX_PATIENCE_S),
            ("first_delay_s", 0, MAX_DELAY_S),
            ("max_delay_s", 0, MAX_DELAY_S),
            ("budget", 0, math.inf),
            ("refund", 0, math.inf),
        ):
            if not least <= getattr(self, name) <= most:  # nan is not, either
                raise UsageError(f"{name} must be from {least:g} to {most:,} seconds, not {getattr(self, name)}")


def bearer_token(endpoint: Endpoint, token: str | None = None) -> str | None:
    """The bearer token to send, if any. It is read where a channel is opened and kept nowhere else.

    Args:
      endpoint: where it is sent.
      token: None for that of `FLOW_IMAGES_TOKEN`, if it is set.

    Raises:
      UsageError: the endpoint has no TLS, so anyone on the way could read it; or it is no token.
    """
    named = f"the bearer token in {TOKEN_VARIABLE}" if token is None else "the bearer token"
    token = os.environ.get(TOKEN_VARIABLE, "") if token is None else token
    token = token.strip()  # one that is read from a file often ends with its line
    if not (token.isascii() and token.isprintable()):
        raise UsageError(f"{named} has characters that can't be sent")
    if token and endpoint.tls is None:
        raise UsageError(f"{named} is only sent over TLS: add `tls`, or unset it")
    return token or None


@contextlib.contextmanager
def _pem_errors(message: str) -> Iterator[None]:
    try:
        yield
    except (ssl.SSLError, ValueError) as error:
        reason = getattr(error, "reason", None)
        raise UsageError(message + (f" ({reason})" if reason else "")) from error


def _read(path: str | None, field: str) -> bytes | None:
    if path is None:
        return None
    try:
        return read_file(path, _MAX_PEM_BYTES)
    except TooLarge as error:
        raise UsageError(f"`{field}` {path}: too large for a file with certificates") from error
    except OSError as error:
        raise UsageError(f"`{field}` {path}: {error.strerror}") from error
