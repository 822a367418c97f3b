"""Options of a client: server, model, TLS, and what is asked for. Those of retries are in `serving.network.retry`."""

import contextlib
import os
import ssl
from collections.abc import Iterator

import grpc

from serving.console.option_fields import Options, option, options_class
from serving.errors import UsageError
from serving.images.wire import WireOrAuto
from serving.model_store.versions import HIGHEST_VERSION
from serving.network.retry import Timeouts
from serving.network.server_address import DEFAULT_PORT, target_of
from serving.storage.local_file import TooLarge, read_file, why_unreadable

_MAX_PEM_BYTES = 4 * 1024 * 1024
TOKEN_VARIABLE = "FLOW_IMAGES_TOKEN"
"""Environment variable of the bearer token: a flag would show in the process list."""


@options_class
class TlsOptions(Options, group="TLS"):
    """TLS, and mTLS with a client certificate. Paths of PEM files."""

    ca: str | None = option("Certificates to trust; None for the system's.", default=None)
    cert: str | None = option("Client certificate.", default=None)
    key: str | None = option("Private key of `cert`.", default=None)
    server_name: str | None = option(
        "Name that the server's certificate is checked against, if it isn't the address's.", default=None
    )

    def __post_init__(self) -> None:
        super().__post_init__()
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
                f"`tls.cert` {self.cert} and `tls.key` {self.key}: expected a certificate and its own key in PEM "
                "form, the key without a password"
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


@options_class
class Endpoint(Options):
    """A model on a server."""

    address: str
    """HOST:PORT, several IP:PORT with commas, dns:///HOST:PORT, or unix:/PATH."""
    model_name: str = option("Name of the model on the server.")
    version: int | None = option("Version to ask; None for the latest.", default=None, least=0, most=HIGHEST_VERSION)
    tls: TlsOptions | None = option("TLS, if the server has it.", default=None)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.model_name:
            raise UsageError("the model's name is empty: give `model_name`")
        target_of(self.address)

    @property
    def target(self) -> str:
        """gRPC's target; see `target_of`."""
        return target_of(self.address)


def make_endpoint(server: str, model_name: str, version: int | None, tls: TlsOptions | bool | None) -> Endpoint:
    """The endpoint of keywords as `flow_images.Client` takes them.

    Raises:
      UsageError: a value of another type, an address of no known form, or an empty name.
    """
    tls = TlsOptions() if tls is True else None if tls is False else tls
    return Endpoint(address=server, model_name=model_name, version=version, tls=tls)


@options_class
class ConnectionOptions(Timeouts, group="Model"):
    """Which server and model to ask, and how long to retry. With `model`, an embedded server is started."""

    server: str | None = option(
        f"A server that runs: TensorFlow Serving's gRPC address, usually port {DEFAULT_PORT}.",
        more="Several IP:PORT with commas, or a name with several addresses, are balanced.",
        default=None,
        metavar="HOST:PORT",
        variable="FLOW_IMAGES_SERVER",
        yields_to="model",
        is_recorded=True,
    )
    model: str | None = option(
        "Or a model folder as `train` writes it, for which a server is started; on a disk or in a bucket.",
        default=None,
        metavar="STORE/NAME",
        is_recorded=True,
    )
    model_name: str | None = option(
        "Name of the model on the server; needed with --server.",
        default=None,
        metavar="NAME",
        default_words="the last folder of --model",
    )
    model_version: int | None = option(
        "Version to ask.", default=None, least=0, most=HIGHEST_VERSION, default_words="the latest"
    )
    tls: bool = option(
        f"Use TLS. A bearer token is taken from {TOKEN_VARIABLE}.",
        default=False,
        group="TLS",
        variable="FLOW_IMAGES_TLS",
        yields_to="model",
    )
    tls_ca: str | None = option(
        "Certificates to trust.",
        default=None,
        group="TLS",
        metavar="PEM",
        variable="FLOW_IMAGES_TLS_CA",
        yields_to="model",
    )
    tls_cert: str | None = option(
        "Client certificate (mTLS).",
        default=None,
        group="TLS",
        metavar="PEM",
        variable="FLOW_IMAGES_TLS_CERT",
        yields_to="model",
    )
    tls_key: str | None = option(
        "Private key of --tls-cert.",
        default=None,
        group="TLS",
        metavar="PEM",
        variable="FLOW_IMAGES_TLS_KEY",
        yields_to="model",
    )
    tls_server_name: str | None = option(
        "Name in the server's certificate, if not HOST.", default=None, group="TLS", metavar="NAME"
    )

    def tls_options(self) -> TlsOptions | None:
        """The options of TLS, if it is used; any of its files asks for it."""
        files = (self.tls_ca, self.tls_cert, self.tls_key, self.tls_server_name)
        if not self.tls and not any(files):
            return None
        return TlsOptions(ca=self.tls_ca, cert=self.tls_cert, key=self.tls_key, server_name=self.tls_server_name)


@options_class
class AnswerOptions(Options):
    """How images travel to the server, and what is kept of its answers."""

    wire: WireOrAuto = option(
        "How images travel: as pixels (uint8 are a quarter of the bytes), or as files that the server decodes "
        "(encoded).",
        more="Pixels are preprocessed here, as float32 (exact) or rounded to uint8. auto: encoded where the server is "
        "on this machine, else float32; a run that goes on keeps its form.",
        group="Speed",
        default="auto",
    )
    # The most is more than any model's classes; where a model has fewer, all of them are meant.
    top_k: int = option(
        "Classes to give of each image, the best first.", default=5, least=1, most=1_000_000, group="Output"
    )


def bearer_token(endpoint: Endpoint, token: str | None = None) -> str | None:
    """The bearer token to send, if any. It is read where a channel is opened and kept nowhere else.

    Args:
      endpoint: where it is sent.
      token: None for that of `FLOW_IMAGES_TOKEN`, if it is set.

    Raises:
      UsageError: the endpoint has no TLS, so anyone on the way could read it; or it is not a token.
    """
    named = f"the bearer token in {TOKEN_VARIABLE}" if token is None else "the bearer token"
    token = os.environ.get(TOKEN_VARIABLE, "") if token is None else token
    if not isinstance(token, str):
        raise UsageError(f"{named} must be text, not {type(token).__name__}")
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
        raise UsageError(f"`{field}` {path}: {why_unreadable(error)}") from error
