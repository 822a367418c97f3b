"""The flags that every command has which asks a server."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from serving.connection import MAX_VERSION, Connection
from serving.console.flag_types import ImageSize, Number
from serving.errors import FlowImagesError
from serving.network.addresses import DEFAULT_PORT
from serving.options import MAX_DEADLINE_S, MAX_PATIENCE_S, MIN_DEADLINE_S, RetryPolicy

F = TypeVar("F", bound=Callable[..., Any])
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
