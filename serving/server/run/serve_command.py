"""`flow-images serve`: the embedded server for people. Imports nothing heavy until it serves."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from serving.console.option_flags import Number
from serving.console.terminal import say

if TYPE_CHECKING:
    from serving.server.run.embedded import EmbeddedServer


@click.command(context_settings={"show_default": True})
@click.option("--model-base-path", required=True, metavar="DIR", help="Folder that holds the version folders.")
@click.option("--model-name", metavar="NAME", show_default="the folder's name", help="What clients call the model.")
@click.option("--port", default=8500, type=click.IntRange(0, 65535), help="gRPC port; 0 takes any free one.")
@click.option("--rest-api-port", type=click.IntRange(0, 65535), help="REST port; 0 takes any free one. Off by default.")
@click.option(
    "--host",
    default="127.0.0.1",
    help="Address to bind. By default only this machine gets in; with 0.0.0.0 all who reach it may also load models.",
)
@click.option("--enable-batching", is_flag=True, help="Batch requests of several clients together.")
@click.option(
    "--batching-parameters-file",
    type=click.Path(exists=True, dir_okay=False),
    help="BatchingParameters as text proto; implies --enable-batching.",
)
@click.option(
    "--monitoring-config-file",
    type=click.Path(exists=True, dir_okay=False),
    help="MonitoringConfig as text proto: Prometheus page on the REST port.",
)
@click.option(
    "--ssl-config-file", type=click.Path(exists=True, dir_okay=False), help="SSLConfig as text proto: gRPC over TLS."
)
@click.option("--grpc-socket-path", metavar="PATH", default="", help="Listen on this Unix socket, too.")
@click.option(
    "--strict",
    is_flag=True,
    help="Behave as TensorFlow Serving in every case (see docs/server.md).",
)
@click.option(
    "--grace-s",
    type=Number(0, 86_400),
    default=30.0,
    help="Seconds that Ctrl-C or SIGTERM leaves to requests in flight.",
)
def serve(
    model_base_path: str,
    model_name: str | None,
    port: int,
    rest_api_port: int | None,
    host: str,
    enable_batching: bool,
    batching_parameters_file: str | None,
    monitoring_config_file: str | None,
    ssl_config_file: str | None,
    grpc_socket_path: str,
    strict: bool,
    grace_s: float,
) -> None:
    """Serve a model with TensorFlow Serving's API.

    New versions in the folder are picked up as they appear. For all of tensorflow_model_server's flags, run
    `python -m serving.server` instead.
    """
    from serving.server.models.base_path import absolute, check_base_path
    from serving.server.ports.listen_addresses import check_socket
    from serving.server.rpc.status import Code, StatusError
    from serving.server.run.server_options import ANY_PORT, ServerOptions

    if not model_base_path:
        raise click.UsageError("--model-base-path is empty")
    base_path = absolute(model_base_path)
    with _as_usage("--model-base-path"):
        check_base_path(base_path)
    model_name = model_name or base_path.rstrip("/").rpartition("/")[2]
    if not model_name:
        raise click.UsageError("the folder has no name: give --model-name")
    for flag, number in (("--port", None if strict else port), ("--rest-api-port", rest_api_port)):
        if number is not None:
            _check_free(flag, host, number)
    if grpc_socket_path:
        with _as_usage("--grpc-socket-path"):
            check_socket(grpc_socket_path)
    _check_files(batching_parameters_file, monitoring_config_file, ssl_config_file)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    options = ServerOptions(
        model_base_path=base_path,
        model_name=model_name,
        port=port or ANY_PORT,
        rest_api_port=0 if rest_api_port is None else rest_api_port or ANY_PORT,
        host=host,
        enable_batching=enable_batching or batching_parameters_file is not None,
        batching_parameters_file=batching_parameters_file or "",
        monitoring_config_file=monitoring_config_file or "",
        ssl_config_file=ssl_config_file or "",
        grpc_socket_path=grpc_socket_path,
        shutdown_grace_s=grace_s,
        strict=strict,
        enable_grpc_healthcheck_service=True,
        enable_profiler=False,  # it writes files where its clients say
    )
    say(f"Loading {base_path} …", err=True)
    from serving.server.__main__ import run

    try:
        run(options, fail_fast=True, ready=_say_ready)
    except StatusError as error:
        if error.code is Code.INVALID_ARGUMENT:
            raise click.UsageError(error.message) from error
        hint = ": a saved_model.pb is empty or cut, copy it again" if "Read less bytes" in error.message else ""
        raise click.ClickException(error.message + hint) from error


@contextlib.contextmanager
def _as_usage(flag: str) -> Iterator[None]:
    """What is found wrong in the block is the flag's fault."""
    from serving.server.rpc.status import StatusError

    try:
        yield
    except StatusError as error:
        raise click.UsageError(f"{flag}: {error.message}") from error


def _check_free(flag: str, host: str, port: int) -> None:
    """Tells of a port in use before TensorFlow's import takes its seconds."""
    from serving.server.ports.listen_addresses import check_port
    from serving.server.rpc.status import Code, StatusError

    try:
        check_port(host, port)
    except StatusError as error:
        if error.code is Code.INVALID_ARGUMENT:
            raise click.UsageError(f"--host: {error.message}") from error
        raise click.ClickException(f"{error.message}: choose another {flag}") from error


def _check_files(batching: str | None, monitoring: str | None, ssl: str | None) -> None:
    """Parses the text protos once before TensorFlow's import."""
    from serving.server.models import textprotos

    for flag, file, message in (
        ("--batching-parameters-file", batching, textprotos.BatchingParameters),
        ("--monitoring-config-file", monitoring, textprotos.MonitoringConfig),
        ("--ssl-config-file", ssl, textprotos.SSLConfig),
    ):
        if file is not None:
            with _as_usage(flag):
                textprotos.read(file, message())


def _say_ready(server: EmbeddedServer) -> None:
    for model in server.models():
        signatures = ", ".join(name for name in sorted(model.signatures) if not name.startswith("__"))
        say(f"Serving {model.name} version {model.version} at {server.address} (gRPC): {signatures}")
    if server.rest_address:
        say(f"REST at http://{server.rest_address}/v1/models/")
    say("Ctrl-C stops.", err=True)
