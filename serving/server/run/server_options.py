"""The server's options: one frozen dataclass, and the parser of `tensorflow_model_server`'s command line.

Every field but those under "Ours" is a flag of `tensorflow_model_server` under its own name, with its own default.
"""

import dataclasses
import typing
from collections.abc import Sequence
from typing import Any

from serving.server.rpc.status_error import Code, StatusError, invalid_argument

ANY_PORT = -1
"""The `port` or `rest_api_port` for which the system chooses a free one. (0 means off, as it does for the binary.)"""


def _flag(default: Any, text: str) -> Any:
    return dataclasses.field(default=default, metadata={"help": text})


_RANGES: dict[str, tuple[float, float]] = {
    "port": (-1, 65535),
    "rest_api_port": (-1, 65535),
    "tensorflow_session_parallelism": (0, 10_000),
    "tensorflow_intra_op_parallelism": (0, 10_000),
    "per_process_gpu_memory_fraction": (0, 1000),
    "shutdown_grace_s": (0, 86_400),
}
"""Least and most of what would otherwise become another port, or end the process."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """What `tensorflow_model_server` is told by flags. Fields that change nothing here say so in their help."""

    port: int = _flag(8500, "gRPC port; 0: no TCP port, -1: any free one")
    grpc_socket_path: str = _flag("", "Unix socket for gRPC, besides the port")
    rest_api_port: int = _flag(0, "REST port; 0: no REST, -1: any free one")
    rest_api_num_threads: int = _flag(0, "REST threads; 0: four per CPU")
    rest_api_timeout_in_ms: int = _flag(30000, "time-out of a REST call")
    rest_api_enable_cors_support: bool = _flag(False, "answer cross-origin requests")
    enable_batching: bool = _flag(False, "batch requests together")
    batching_parameters_file: str = _flag("", "text proto BatchingParameters")
    enable_per_model_batching_parameters: bool = _flag(False, "read batching_params.pbtxt from each version folder")
    model_config_file: str = _flag("", "text proto ModelServerConfig; wins over the two below")
    model_config_file_poll_wait_seconds: int = _flag(0, "seconds between reads of that file; 0: read once")
    model_name: str = _flag("default", "name of the one model")
    model_base_path: str = _flag("", "folder that holds its version folders")
    num_load_threads: int = _flag(0, "ignored: loads are serial")
    num_unload_threads: int = _flag(0, "ignored: the last request to finish unloads")
    max_num_load_retries: int = _flag(5, "tries after the first failed load")
    load_retry_interval_micros: int = _flag(60_000_000, "pause before such a try")
    file_system_poll_wait_seconds: int = _flag(1, "seconds between looks for new versions; 0: look once")
    flush_filesystem_caches: bool = _flag(True, "ignored")
    tensorflow_session_parallelism: int = _flag(0, "intra- and inter-op threads")
    tensorflow_intra_op_parallelism: int = _flag(0, "intra-op threads")
    tensorflow_inter_op_parallelism: int = _flag(0, "inter-op threads")
    tensorflow_session_config_file: str = _flag("", "text proto ConfigProto")
    use_alts_credentials: bool = _flag(False, "not available here: refused")
    ssl_config_file: str = _flag("", "text proto SSLConfig: gRPC over TLS")
    platform_config_file: str = _flag("", "ignored")
    per_process_gpu_memory_fraction: float = _flag(0.0, "share of the GPU's memory; 0: TensorFlow's rule")
    saved_model_tags: str = _flag("serve", "tags of the meta graph, with commas")
    grpc_channel_arguments: str = _flag("", "gRPC server arguments a=1,b=x")
    grpc_max_threads: int = _flag(
        0, "RPCs in work at once before RESOURCE_EXHAUSTED; 0: no limit (the binary: four per CPU)"
    )
    enable_model_warmup: bool = _flag(True, "replay assets.extra/tf_serving_warmup_requests")
    num_request_iterations_for_warmup: int = _flag(0, "times each record is replayed; 0: once")
    monitoring_config_file: str = _flag("", "text proto MonitoringConfig")
    remove_unused_fields_from_bundle_metagraph: bool = _flag(True, "ignored")
    prefer_tflite_model: bool = _flag(False, "ignored")
    num_tflite_pools: int = _flag(0, "ignored")
    num_tflite_interpreters_per_pool: int = _flag(1, "ignored")
    enable_signature_method_name_check: bool = _flag(False, "check the signature's method name")
    xla_cpu_compilation_enabled: bool = _flag(False, "ignored")
    xla_gpu_compilation_enabled: bool = _flag(False, "ignored")
    enable_profiler: bool = _flag(True, "let TensorBoard profile this process")
    thread_pool_factory_config_file: str = _flag("", "ignored")
    mixed_precision: str = _flag("", "ignored")
    skip_initialize_tpu: bool = _flag(False, "ignored")
    enable_grpc_healthcheck_service: bool = _flag(False, "serve grpc.health.v1.Health")
    enable_serialization_as_tensor_content: bool = _flag(False, "answer in tensor_content, not in typed fields")
    allow_version_labels_for_unavailable_models: bool = _flag(
        False, "let new labels point at versions that are not loaded"
    )
    version: bool = _flag(False, "print the version and exit")

    # Ours.
    strict: bool = _flag(False, "behave as the binary in every case; docs/server.md lists where that is worse")
    host: str = _flag("0.0.0.0", "address that the ports bind to")
    shutdown_grace_s: float = _flag(30.0, "seconds that SIGTERM leaves to requests in flight")
    parent_pipe_fd: int = _flag(-1, "internal: exit when this pipe closes")

    def check(self) -> None:
        """Looks for numbers out of their range, and for flags that contradict each other.

        Raises:
          StatusError: INVALID_ARGUMENT, in the binary's words; UNIMPLEMENTED for ALTS.
        """
        for name, (least, most) in _RANGES.items():
            if not least <= getattr(self, name) <= most:  # NaN is in no range
                raise invalid_argument(f"--{name}={getattr(self, name)} is not within {least} and {most}")
        if self.port == 0 and not self.grpc_socket_path:
            raise invalid_argument("server_options.grpc_port is not set.")
        if self.use_alts_credentials:
            if self.ssl_config_file:
                raise invalid_argument("Either use_alts_credentials must be false or ssl_config_file must be empty.")
            raise StatusError(Code.UNIMPLEMENTED, "ALTS is not available in this server.")
        if not self.model_base_path and not self.model_config_file:
            raise invalid_argument(
                "Both server_options.model_base_path and server_options.model_config_file are empty!"
            )
        if self.batching_parameters_file and not self.enable_batching:
            raise invalid_argument(
                "server_options.batching_parameters_file is set without setting server_options.enable_batching to true."
            )
        separately = self.tensorflow_intra_op_parallelism > 0 and self.tensorflow_inter_op_parallelism > 0
        if separately and self.tensorflow_session_parallelism > 0:
            raise invalid_argument(
                "Either configure server_options.tensorflow_session_parallelism or "
                "(server_options.tensorflow_intra_op_parallelism, server_options.tensorflow_inter_op_parallelism) "
                "separately. You cannot configure all."
            )


class FlagError(Exception):
    """A flag's value does not parse: usage and exit status 255."""


def parse_flags(argv: Sequence[str]) -> tuple[ServerOptions, list[str]]:
    """Reads a command line the way the binary does.

    Two dashes and `=`; booleans bare, `=true` or `=false`; the later of two equal flags wins; a value after a blank is
    not understood.

    Returns:
      The options, and the arguments that mean nothing (reported by the caller, otherwise ignored).

    Raises:
      FlagError: a known flag's value does not parse.
    """
    kinds = _kinds()
    values: dict[str, object] = {}
    unknown: list[str] = []
    for position, argument in enumerate(argv):
        if argument == "--":
            unknown.extend(argv[position + 1 :])
            break
        name, equals, text = argument.removeprefix("--").partition("=")
        if not argument.startswith("--") or name not in kinds or (not equals and kinds[name] != "bool"):
            unknown.append(argument)
        else:
            values[name] = _value(name, kinds[name], text if equals else "true")
    return ServerOptions(**values), unknown  # type: ignore[arg-type]


def _kinds() -> dict[str, str]:
    """The type of each flag, as the binary's usage names it."""
    return {name: kind.__name__ for name, kind in typing.get_type_hints(ServerOptions).items()}


def _value(name: str, kind: str, text: str) -> object:
    try:
        if kind == "bool":
            return {"true": True, "false": False}[text]
        return {"int": int, "float": float, "str": str}[kind](text)
    except (KeyError, ValueError):
        raise FlagError(f"Couldn't interpret value {text!r} for flag {name}.") from None


def usage(program: str) -> str:
    """The text that `--help` and a bad value print."""
    lines, kinds = [f"usage: {program}", "Flags:"], _kinds()
    for field in dataclasses.fields(ServerOptions):
        lines.append(f"\t--{field.name}={field.default!s:<24}\t{kinds[field.name]}\t{field.metadata['help']}")
    return "\n".join(lines) + "\n"


def to_flags(options: ServerOptions) -> list[str]:
    """The command line that `parse_flags` reads back as `options`; defaults are left out."""
    flags = []
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if value != field.default:
            flags.append(f"--{field.name}={str(value).lower() if isinstance(value, bool) else value}")
    return flags
