"""`flow-images serve`: the embedded server for people. Imports nothing heavy until it serves."""

import contextlib
import logging
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import quote

import click

from serving.console.grouped_help import GroupedCommand
from serving.console.option_fields import Options, option, options_class
from serving.console.option_flags import option_flags
from serving.console.terminal import say

if TYPE_CHECKING:
    from serving.server.run.embedded import EmbeddedServer


@options_class
class ServeOptions(Options, group="Addresses"):
    """What `flow-images serve` serves, and where; `ServerOptions` has all of tensorflow_model_server's flags."""

    model_base_path: str = option("Folder that holds the version folders.", metavar="FOLDER", group="Model")
    model_name: str | None = option(
        "What clients call the model.", default=None, metavar="NAME", default_words="the folder's name", group="Model"
    )
    host: str = option(
        "Address to bind. 127.0.0.1 lets only this machine in; with 0.0.0.0 all who reach it may also load models.",
        default="127.0.0.1",
        metavar="ADDRESS",
    )
    port: int = option("gRPC port; 0 takes any free one.", default=8500, least=0, most=65535)
    rest_api_port: int | None = option(
        "REST port; 0 takes any free one.", default=None, least=0, most=65535, default_words="none"
    )
    grpc_socket_path: str | None = option("Listen on this Unix socket, too.", default=None, metavar="PATH")
    enable_batching: bool = option("Batch requests of several clients together.", default=False, group="Speed")
    batching_parameters_file: str | None = option(
        "BatchingParameters as text proto; implies --enable-batching.", default=None, metavar="FILE", group="Speed"
    )
    grace_s: float = option(
        "Seconds that Ctrl-C or SIGTERM leaves to requests in flight.",
        default=30.0,
        metavar="SECONDS",
        least=0,
        most=86_400,
        group="Server",
    )
    strict: bool = option(
        "Behave as TensorFlow Serving in every case (see docs/server.md).", default=False, group="Server"
    )
    monitoring_config_file: str | None = option(
        "MonitoringConfig as text proto: Prometheus page on the REST port.",
        default=None,
        metavar="FILE",
        group="Server",
    )
    ssl_config_file: str | None = option(
        "SSLConfig as text proto: gRPC over TLS.", default=None, metavar="FILE", group="TLS"
    )


@click.command(
    cls=GroupedCommand,
    options_metavar="--model-base-path FOLDER [OPTIONS]",
    examples=(
        "flow-images serve --model-base-path models/dogs",
        "flow-images serve --model-base-path models/dogs --rest-api-port 8501 \\\n--enable-batching --host 0.0.0.0",
    ),
)
@option_flags(ServeOptions)
def serve(options: ServeOptions) -> None:
    """Serve a model with TensorFlow Serving's API.

    New versions in the folder are picked up as they appear. For all of tensorflow_model_server's flags, run
    `python -m serving.server` instead.
    """
    from serving.server.models.base_path import absolute, check_base_path
    from serving.server.ports.listen_addresses import check_socket
    from serving.server.rpc.status_error import Code, StatusError
    from serving.server.run.server_options import ANY_PORT, ServerOptions

    if not options.model_base_path:
        raise click.UsageError("--model-base-path is empty")
    base_path = absolute(options.model_base_path)
    with _as_usage("--model-base-path"):
        check_base_path(base_path)
    model_name = options.model_name or base_path.rstrip("/").rpartition("/")[2]
    if not model_name:
        raise click.UsageError("the folder has no name: give --model-name")
    port, rest_api_port = options.port, options.rest_api_port
    for flag, number in (("--port", None if options.strict else port), ("--rest-api-port", rest_api_port)):
        if number is not None:
            _check_free(flag, options.host, number)
    if options.grpc_socket_path:
        with _as_usage("--grpc-socket-path"):
            check_socket(options.grpc_socket_path)
    _check_files(options)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    server_options = ServerOptions(
        model_base_path=base_path,
        model_name=model_name,
        port=port or ANY_PORT,
        rest_api_port=0 if rest_api_port is None else rest_api_port or ANY_PORT,
        host=options.host,
        enable_batching=options.enable_batching or options.batching_parameters_file is not None,
        batching_parameters_file=options.batching_parameters_file or "",
        monitoring_config_file=options.monitoring_config_file or "",
        ssl_config_file=options.ssl_config_file or "",
        grpc_socket_path=options.grpc_socket_path or "",
        shutdown_grace_s=options.grace_s,
        strict=options.strict,
        enable_grpc_healthcheck_service=True,
        enable_profiler=False,  # it writes files where its clients say
    )
    say(f"Loading {base_path} …", err=True)
    from serving.server.__main__ import run

    try:
        run(server_options, fail_fast=True, ready=_say_ready)
    except StatusError as error:
        if error.code is Code.INVALID_ARGUMENT:
            raise click.UsageError(error.message) from error
        hint = ": a saved_model.pb is empty or cut, copy it again" if "Read less bytes" in error.message else ""
        raise click.ClickException(error.message + hint) from error


@contextlib.contextmanager
def _as_usage(flag: str) -> Iterator[None]:
    """What is found wrong in the block is the flag's fault."""
    from serving.server.rpc.status_error import StatusError

    try:
        yield
    except StatusError as error:
        raise click.UsageError(f"{flag}: {error.message}") from error


def _check_free(flag: str, host: str, port: int) -> None:
    """Tells of a port in use before TensorFlow's import takes its seconds."""
    from serving.server.ports.listen_addresses import check_port
    from serving.server.rpc.status_error import Code, StatusError

    try:
        check_port(host, port)
    except StatusError as error:
        if error.code is Code.INVALID_ARGUMENT:
            raise click.UsageError(f"--host: {error.message}") from error
        raise click.ClickException(f"{error.message}: choose another {flag}") from error


def _check_files(options: ServeOptions) -> None:
    """Parses the text protos once before TensorFlow's import."""
    from serving.server.models import textprotos

    for flag, file, message in (
        ("--batching-parameters-file", options.batching_parameters_file, textprotos.BatchingParameters),
        ("--monitoring-config-file", options.monitoring_config_file, textprotos.MonitoringConfig),
        ("--ssl-config-file", options.ssl_config_file, textprotos.SSLConfig),
    ):
        if file is not None:
            with _as_usage(flag):
                textprotos.read(file, message())


def _say_ready(server: "EmbeddedServer") -> None:
    for model in server.models():
        signatures = ", ".join(name for name in sorted(model.signatures) if not name.startswith("__"))
        say(f"Serving {model.name} version {model.version} at {server.address} (gRPC): {signatures}")
        if server.rest_address:
            say(f"REST at http://{server.rest_address}/v1/models/{quote(model.name, safe='')}")
    # From now on a version that is loaded or unloaded is news: the folder has changed.
    logging.getLogger("serving.server.models.manager").setLevel(logging.INFO)
    say("Ctrl-C stops.", err=True)
