"""`flow-images classify`, and the flags that every command has which asks a server."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import click

from serving.errors import FlowImagesError, UsageError
from serving.flag_types import ImageSize
from serving.options import DEFAULT_PORT, Endpoint, RetryPolicy, TlsOptions

F = TypeVar("F", bound=Callable[..., Any])
WIRE_NAMES = ("float32", "uint8", "encoded")
"""As `serving.contract.WIRES`, which takes longer to import than `--help` may."""


def server_flags(command: F) -> F:
    """Adds the flags that say which server and model to ask, as the one argument `connection`."""
    flags = [
        click.option("--server", metavar="HOST:PORT", envvar="FLOW_IMAGES_SERVER",
                     help=f"TensorFlow Serving's gRPC address, usually port {DEFAULT_PORT}. Several IP:PORT with "
                     "commas, or a name with several addresses, are balanced."),
        click.option("--model", "store", metavar="STORE/NAME",
                     help="A model folder as `train` writes it; an embedded server is started for the run. `predict` "
                     "takes gs:// and s3://, too."),
        click.option("--model-name", help="Name of the model on the server. [default: the last folder of --model]"),
        click.option("--model-version", type=click.IntRange(min=0), help="Version to ask. [default: the latest]"),
        click.option("--tls", is_flag=True, envvar="FLOW_IMAGES_TLS",
                     help="Use TLS. A bearer token is taken from FLOW_IMAGES_TOKEN."),
        click.option("--tls-ca", metavar="PEM", envvar="FLOW_IMAGES_TLS_CA", help="Certificates to trust."),
        click.option("--tls-cert", metavar="PEM", envvar="FLOW_IMAGES_TLS_CERT", help="Client certificate (mTLS)."),
        click.option("--tls-key", metavar="PEM", envvar="FLOW_IMAGES_TLS_KEY", help="Its key."),
        click.option("--tls-server-name", metavar="NAME", help="Name in the server's certificate, if not HOST."),
        click.option("--deadline", "deadline_s", type=float, default=RetryPolicy().deadline_s, show_default=True,
                     help="Seconds that one request may take."),
        click.option("--patience", "patience_s", type=float, default=RetryPolicy().patience_s, show_default=True,
                     help="Seconds to go on trying while the server is away or overloaded."),
    ]  # fmt: skip

    @functools.wraps(command)
    def wrapped(**arguments: Any) -> Any:
        names = ("server", "store", "model_name", "model_version", "tls", "tls_ca", "tls_cert", "tls_key",
                 "tls_server_name", "deadline_s", "patience_s")  # fmt: skip
        connection = Connection(**{name: arguments.pop(name) for name in names})
        return command(connection=connection, **arguments)

    for flag in reversed(flags):
        wrapped = flag(wrapped)
    return wrapped  # type: ignore[return-value]


def plain_model_flags(command: F) -> F:
    """Adds the flags for a model without a contract, named as the fields of `serving.discovery.PlainModel`."""
    flags = [
        click.option("--labels", help="For a model without a contract: a file with a label a line."),
        click.option("--image-size", type=ImageSize(),
                     help="For a model without a contract: its picture size, such as 224, or 320x240 (width x height). "
                     "[default: what the server tells]"),
        click.option("--input-range", type=click.Choice(["0..1", "0..255", "-1..1"]),
                     help="For a model without a contract that takes float32: what black and white are. "
                     "[default: 0..1]"),
        click.option("--activation", type=click.Choice(["softmax", "sigmoid", "none"]),
                     help="For a model without a contract: what makes probabilities of its outputs, if they are "
                     "logits. none: take any outputs as they are."),
        click.option("--signature", help="For a model without a contract: its signature. [default: serving_default]"),
        click.option("--input-name", help="For a model without a contract: the signature's input."),
        click.option("--output-name", help="For a model without a contract: the signature's output."),
    ]  # fmt: skip
    for flag in reversed(flags):
        command = flag(command)
    return command


Fetch = Callable[[str, int | None], contextlib.AbstractContextManager[Path]]
"""From a model folder in a bucket and a version (None: the highest) to a copy on a disk."""


class Connection:
    """The server flags, checked: an endpoint that is there, or an embedded server to start."""

    def __init__(
        self, *, server: str | None, store: str | None, model_name: str | None, model_version: int | None,
        tls: bool, tls_ca: str | None, tls_cert: str | None, tls_key: str | None, tls_server_name: str | None,
        deadline_s: float, patience_s: float,
    ) -> None:  # fmt: skip
        """Raises UsageError where the flags contradict each other."""
        if bool(server) == bool(store):
            raise UsageError("give either --server HOST:PORT, or --model STORE/NAME to start an embedded server")
        files = (tls_ca, tls_cert, tls_key, tls_server_name)
        tls_options = (
            TlsOptions(ca=tls_ca, cert=tls_cert, key=tls_key, server_name=tls_server_name)
            if tls or any(files)
            else None
        )
        if store:
            if tls_options:
                raise UsageError("--tls… is for --server; the embedded server of --model is on a private socket")
            self._store, in_store = _in_bucket(store) if "://" in store else _model_folder(store)
            own_name = self._store.rstrip("/").rsplit("/", 1)[1]
            model_name, model_version = model_name or own_name, in_store if model_version is None else model_version
        elif not model_name:
            raise UsageError("--server needs --model-name: the model's name on the server")
        self.embedded = bool(store)
        self.retry = RetryPolicy(deadline_s=deadline_s, patience_s=patience_s)
        self._endpoint = Endpoint(
            address=server or "unix:not-started", model_name=model_name or "", version=model_version, tls=tls_options
        )

    @property
    def asked(self) -> tuple[str, int | None]:
        """Name and version of the model as the flags have them; None for the latest."""
        return self._endpoint.model_name, self._endpoint.version

    @contextlib.contextmanager
    def connect(
        self, version: int | None = None, *, meanwhile: Callable[[], object] = lambda: None, fetch: Fetch | None = None
    ) -> Iterator[Endpoint]:
        """The endpoint; with --model, an embedded server of one version runs as long as the block.

        Args:
          version: the one to serve where the flags name none; None for the highest.
          meanwhile: something slow that the caller needs later, such as an import, done while the server starts.
          fetch: for a model in a bucket: gives a local copy of (folder, version).
        Raises:
          UsageError: there is no such version; or the model is in a bucket, and the caller can't fetch it.
        """
        if not self.embedded:
            yield self._endpoint
            return
        from serving.server import ServerProcess
        from serving.server.status import ServingError as ServerError

        version = version if self._endpoint.version is None else self._endpoint.version
        with contextlib.ExitStack() as stack:
            store: str | Path = self._store
            if "://" in self._store:
                if fetch is None:
                    raise UsageError(
                        f"--model {store}: copy the model from the bucket to a disk first, or give --server"
                    )
                store = stack.enter_context(fetch(self._store, version))
            version = _choose(store, version)
            server = ServerProcess(store, model_name=self._endpoint.model_name, version=version)
            stack.callback(server.stop)
            with ThreadPoolExecutor(1) as starting:
                started = starting.submit(server.start)
                meanwhile()
                try:
                    started.result()
                except ServerError as error:
                    raise FlowImagesError(f"--model {self._store}: {error}") from error
            yield dataclasses.replace(self._endpoint, address=server.address, version=version)


def _in_bucket(store: str) -> tuple[str, int | None]:
    folder, _, last = store.rstrip("/").rpartition("/")
    return (folder, int(last)) if last.isdigit() else (store.rstrip("/"), None)


def _model_folder(store: str) -> tuple[str, int | None]:
    """The folder with the versions, and the version if a version's folder itself was named."""
    folder = Path(store)
    if not folder.is_dir():
        raise UsageError(f"--model {store}: no such folder; `flow-images train` makes one")
    if (folder / "saved_model.pb").exists():
        if not folder.name.isdigit():
            raise UsageError(f"--model {store}: a SavedModel must lie in a version folder, such as {store}/1")
        return str(folder.resolve().parent), int(folder.name)
    _choose(folder, None)
    return str(folder.resolve()), None


def _choose(store: str | Path, version: int | None) -> int:
    """The version, or the highest, of those in a model's folder."""
    from serving.server.base_path import whole_versions

    there = sorted(whole_versions(store))
    if not there:
        raise UsageError(
            f"--model {store}: no version folder (an integer, with a saved_model.pb) in it; `flow-images train` "
            "makes one"
        )
    if version is not None and version not in there:
        raise UsageError(
            f"--model {store}: no version {version} in it, but {', '.join(map(str, there))}. A run that was begun with "
            "one needs it until its end, unless it is begun again with --fresh"
        )
    return there[-1] if version is None else version


@click.command()
@click.argument("pictures", nargs=-1, required=True, metavar="PICTURE...")
@server_flags
@click.option("--top-k", type=click.IntRange(min=1), default=5, show_default=True, help="Classes to show.")
@click.option("--wire", type=click.Choice(WIRE_NAMES), help="How pictures travel. [default: float32]")
@plain_model_flags
def classify(pictures: Sequence[str], connection: Connection, top_k: int, wire: Any, **plain: Any) -> None:
    """Show the top classes of one or a few pictures.

    Exits with 1 if one of them can't be classified; the others are shown all the same.
    """
    from serving.classify import classify_files
    from serving.discovery import PlainModel

    with connection.connect() as endpoint:
        rejected = classify_files(pictures, endpoint, connection.retry, PlainModel(**plain), wire, top_k)
    if rejected:
        raise click.exceptions.Exit(1)
