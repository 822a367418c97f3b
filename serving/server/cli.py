"""`flow-images serve`: the embedded server for people. Imports nothing heavy until it serves."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import click

from serving.flag_types import Number

if TYPE_CHECKING:
    from serving.server.embedded import EmbeddedServer


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
    grace_s: float,
) -> None:
    """Serve a model with TensorFlow Serving's API.

    New versions in the folder are picked up as they appear. For all of tensorflow_model_server's flags, run
    `python -m serving.server` instead.
    """
    from serving.server.base_path import absolute, check_base_path
    from serving.server.options import ANY_PORT, ServerOptions
    from serving.server.status import ServingError

    base_path = absolute(model_base_path)
    try:
        check_base_path(base_path)
    except ServingError as error:
        raise click.UsageError(error.message) from error
    for flag, number in (("--port", port), ("--rest-api-port", rest_api_port)):
        _check_free(flag, host, number)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    options = ServerOptions(
        model_base_path=base_path,
        model_name=model_name or base_path.rstrip("/").rpartition("/")[2],
        port=port or ANY_PORT,
        rest_api_port=0 if rest_api_port is None else rest_api_port or ANY_PORT,
        host=host,
        enable_batching=enable_batching or batching_parameters_file is not None,
        batching_parameters_file=batching_parameters_file or "",
        monitoring_config_file=monitoring_config_file or "",
        ssl_config_file=ssl_config_file or "",
        grpc_socket_path=grpc_socket_path,
        shutdown_grace_s=grace_s,
        enable_grpc_healthcheck_service=True,
        enable_profiler=False,  # it writes files where its clients say
    )
    click.echo(f"Loading {base_path} …", err=True)
    from serving.quiet import import_tensorflow

    import_tensorflow()
    from serving.server.__main__ import run

    try:
        run(options, fail_fast=True, ready=_say_ready)
    except ServingError as error:
        raise click.ClickException(error.message) from error


def _check_free(flag: str, host: str, port: int | None) -> None:
    """Tells of a port in use before TensorFlow's import takes its seconds."""
    if not port:
        return
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host.strip("[]"), port))
        except OSError as error:
            raise click.ClickException(
                f"can't listen on {host}:{port} ({error.strerror}): choose another {flag}"
            ) from None


def _say_ready(server: EmbeddedServer) -> None:
    for model in server.models():
        signatures = ", ".join(name for name in sorted(model.signatures) if not name.startswith("__"))
        click.echo(f"Serving {model.name} version {model.version} at {server.address} (gRPC): {signatures}")
    if server.rest_address:
        click.echo(f"REST at http://{server.rest_address}/v1/models/")
    click.echo("Ctrl-C stops.", err=True)
