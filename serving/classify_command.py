"""`flow-images classify`, and the flags that every command has which asks a server."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from serving.console.field_names import with_flags
from serving.console.flag_types import ImageSize, Number
from serving.errors import FlowImagesError, UsageError
from serving.network.addresses import DEFAULT_PORT
from serving.options import (
    MAX_DEADLINE_S,
    MAX_PATIENCE_S,
    MIN_DEADLINE_S,
    Endpoint,
    RetryPolicy,
    TlsOptions,
    bearer_token,
)

F = TypeVar("F", bound=Callable[..., Any])
MAX_VERSION = 2**63 - 1
"""A version is a signed 64-bit number for TensorFlow Serving."""
MAX_IMAGE_BYTES = 2**31 - 1
"""One file has to fit into a message of gRPC."""
MAX_IMAGE_PIXELS = 2**31 - 1
MAX_TOP_K = 1_000_000
"""More than any model's classes; where a model has fewer, all of them are meant."""
WIRE_NAMES = ("float32", "uint8", "encoded")
"""As `serving.contract.WIRES`, which takes longer to import than `--help` may."""


def server_flags(command: F) -> F:
    """Adds the flags that say which server and model to ask, as the one argument `connection`."""
    flags = [
        click.option("--server", metavar="HOST:PORT", envvar="FLOW_IMAGES_SERVER", show_envvar=True,
                     help=f"TensorFlow Serving's gRPC address, usually port {DEFAULT_PORT}. Several IP:PORT with "
                     "commas, or a name with several addresses, are balanced."),
        click.option("--model", "store", metavar="STORE/NAME",
                     help="A model folder as `train` writes it; an embedded server is started for the run. `predict` "
                     "takes gs:// and s3://, too."),
        click.option("--model-name", help="Name of the model on the server. [default: the last folder of --model]"),
        click.option("--model-version", type=click.IntRange(0, MAX_VERSION),
                     help="Version to ask. [default: the latest]"),
        click.option("--tls", is_flag=True, envvar="FLOW_IMAGES_TLS", show_envvar=True,
                     help="Use TLS. A bearer token is taken from FLOW_IMAGES_TOKEN."),
        click.option("--tls-ca", metavar="PEM", envvar="FLOW_IMAGES_TLS_CA", show_envvar=True,
                     help="Certificates to trust."),
        click.option("--tls-cert", metavar="PEM", envvar="FLOW_IMAGES_TLS_CERT", show_envvar=True,
                     help="Client certificate (mTLS)."),
        click.option("--tls-key", metavar="PEM", envvar="FLOW_IMAGES_TLS_KEY", show_envvar=True, help="Its key."),
        click.option("--tls-server-name", metavar="NAME", help="Name in the server's certificate, if not HOST."),
        click.option("--deadline", "deadline_s", type=Number(MIN_DEADLINE_S, MAX_DEADLINE_S),
                     default=RetryPolicy().deadline_s, show_default=True, help="Seconds that one request may take."),
        click.option("--patience", "patience_s", type=Number(0, MAX_PATIENCE_S), default=RetryPolicy().patience_s,
                     show_default=True, help="Seconds to go on trying while the server is away or overloaded."),
    ]  # fmt: skip

    @functools.wraps(command)
    def wrapped(**arguments: Any) -> Any:
        names = ("server", "store", "model_name", "model_version", "tls", "tls_ca", "tls_cert", "tls_key",
                 "tls_server_name", "deadline_s", "patience_s")  # fmt: skip
        given = _without_idle_variables({name: arguments.pop(name) for name in names})
        try:
            return command(connection=Connection(**given), **arguments)
        except FlowImagesError as error:
            message, *more = error.args
            error.args = (f"{message}{_variables_in(str(message))}", *more)
            raise

    for flag in reversed(flags):
        wrapped = flag(wrapped)
    return wrapped  # type: ignore[return-value]


_OF_SERVER = ("server", "tls", "tls_ca", "tls_cert", "tls_key")
"""The flags of `server_flags` that may come from the environment."""


def _from_environment() -> dict[str, str]:
    """Variables that are in use, by the name of their flag's argument."""
    context = click.get_current_context()
    return {
        parameter.name: str(parameter.envvar)
        for parameter in context.command.params
        if parameter.name in _OF_SERVER
        and context.get_parameter_source(parameter.name) is ParameterSource.ENVIRONMENT
    }  # fmt: skip


def _without_idle_variables(given: dict[str, Any]) -> dict[str, Any]:
    """The arguments; a --model that was typed wins over a server that the environment names."""
    variables = _from_environment()
    if not given["store"] or (given["server"] and "server" not in variables):
        return given
    if "server" in variables:
        click.echo(f"flow-images: --model is given, so {variables['server']} is left alone", err=True)
    return given | dict.fromkeys(variables, None) | ({"tls": False} if "tls" in variables else {})


def _variables_in(message: str) -> str:
    """For a message about flags: which of them are set by the environment."""
    message = with_flags(message)
    found = [variable for name, variable in _from_environment().items() if f"--{name.replace('_', '-')} " in message]
    return f" (set by {', '.join(found)} in the environment)" if found else ""


def picture_limit_flags(command: F) -> F:
    """Adds the limits of `serving.images.limits.PictureLimits`."""
    flags = [
        click.option("--max-image-bytes", type=click.IntRange(1, MAX_IMAGE_BYTES), default=64 * 1024 * 1024,
                     show_default=True, help="Larger files are not read."),
        click.option("--max-image-pixels", type=click.IntRange(1, MAX_IMAGE_PIXELS), default=100_000_000,
                     show_default=True, help="Larger pictures are not decoded."),
    ]  # fmt: skip
    for flag in reversed(flags):
        command = flag(command)
    return command


def model_override_flags(command: F) -> F:
    """Adds the flags for a model without a contract, named as the fields of `serving.discovery.ModelOverrides`."""
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
        if tls_options:
            tls_options.check()
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
        if server:
            bearer_token(self._endpoint)  # is refused before anything is listed or asked

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
        from serving.server.rpc.status import Code, StatusError

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
            start_s = max(_START_S, self.retry.patience_s)
            server = ServerProcess(
                store, model_name=self._endpoint.model_name, version=version, start_timeout_s=start_s
            )
            stack.callback(server.stop)
            with ThreadPoolExecutor(1) as starting:
                started = starting.submit(server.start)
                meanwhile()
                try:
                    started.result()
                except StatusError as error:
                    more = "; --patience gives it more" if error.code is Code.DEADLINE_EXCEEDED else ""
                    raise FlowImagesError(f"--model {self._store}: {error}{more}") from error
            yield dataclasses.replace(self._endpoint, address=server.address, version=version)


_START_S = 300.0
"""Least seconds that an embedded server gets to load its model; --patience may give it more."""


def _in_bucket(store: str) -> tuple[str, int | None]:
    folder, _, last = store.rstrip("/").rpartition("/")
    version = _as_version(last)
    return (store.rstrip("/"), None) if version is None else (folder, version)


def _as_version(name: str) -> int | None:
    """The version that a folder's name stands for, if it does."""
    number = int(name) if name.isascii() and name.isdigit() and len(name) < 20 else None
    return number if number is not None and number <= MAX_VERSION else None


def _model_folder(store: str) -> tuple[str, int | None]:
    """The folder with the versions, and the version if a version's folder itself was named."""
    folder = Path(store)
    if folder.is_file():
        raise UsageError(f"--model {store}: a file; give a model folder, STORE/NAME, as `flow-images train` makes it")
    if not folder.is_dir():
        raise UsageError(f"--model {store}: no such folder; `flow-images train` makes one")
    folder = folder.resolve()
    if (folder / "saved_model.pb").exists():
        version = _as_version(folder.name)
        if version is None:
            raise UsageError(
                f"--model {store}: a SavedModel must lie in a folder that is named by its version: move it to "
                f"{folder / '1'}, say"
            )
        return str(folder.parent), version
    _choose(folder, None)
    return str(folder), None


def _choose(store: str | Path, version: int | None) -> int:
    """The version, or the highest, of those in a model's folder."""
    from serving.server.models.base_path import models_in, whole_versions

    try:
        there = sorted(whole_versions(store))
    except OSError as error:
        raise UsageError(f"--model {store}: {error.strerror}") from error
    if not there:
        raise UsageError(
            f"--model {store}: no version folder (an integer, with a saved_model.pb) in it; "
            + (models_in(store) or "`flow-images train` makes one")
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
@click.option("--top-k", type=click.IntRange(1, MAX_TOP_K), default=5, show_default=True, help="Classes to show.")
@click.option("--wire", type=click.Choice(WIRE_NAMES), help="How pictures travel. [default: float32]")
@picture_limit_flags
@model_override_flags
def classify(
    pictures: Sequence[str], connection: Connection, top_k: int, wire: Any, max_image_bytes: int,
    max_image_pixels: int, **plain: Any,
) -> None:  # fmt: skip
    """Show the top classes of one or a few pictures.

    Exits with 1 if one of them can't be classified; the others are shown all the same.
    """
    from serving.classify import classify_files
    from serving.discovery import ModelOverrides
    from serving.images.limits import PictureLimits

    limits = PictureLimits(max_bytes=max_image_bytes, max_pixels=max_image_pixels)
    with connection.connect() as endpoint:
        rejected = classify_files(pictures, endpoint, connection.retry, ModelOverrides(**plain), limits, wire, top_k)
    if rejected:
        raise click.exceptions.Exit(1)
