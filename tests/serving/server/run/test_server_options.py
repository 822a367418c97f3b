"""The server's flags: as the binary reads them; refused where they contradict each other or mean nothing."""

from pathlib import Path
from typing import Any

import pytest

from serving.server import EmbeddedServer
from serving.server.rpc.status_error import Code, StatusError
from serving.server.run.server_options import FlagError, ServerOptions, parse_flags, to_flags


def test_flags_are_read_as_the_binary_reads_them() -> None:
    options, unknown = parse_flags(
        ["--port=1", "--enable_batching", "--enable_profiler=false", "--port=2", "--model_name", "x", "--odd=1"]
    )
    assert (options.port, options.enable_batching, options.enable_profiler) == (2, True, False)
    assert options.model_name == "default"  # a value after a blank is not understood
    assert unknown == ["--model_name", "x", "--odd=1"]
    for bad in ("--port=x", "--enable_batching=yes", "--per_process_gpu_memory_fraction=a"):
        with pytest.raises(FlagError):
            parse_flags([bad])


def test_flags_can_be_written_back() -> None:
    options = ServerOptions(port=7, enable_batching=True, enable_profiler=False, model_name="a b")
    assert parse_flags(to_flags(options)) == (options, [])


def test_no_port_at_all_is_an_error(written: Path) -> None:
    options = ServerOptions(port=0, model_base_path=str(written / "m"))
    with pytest.raises(StatusError, match="grpc_port is not set"):
        EmbeddedServer(options=options).start()


def test_the_defaults_of_tensorflow_model_server() -> None:
    options = ServerOptions()
    assert (options.port, options.rest_api_port, options.rest_api_timeout_in_ms) == (8500, 0, 30000)
    assert (options.max_num_load_retries, options.load_retry_interval_micros) == (5, 60_000_000)
    assert (options.file_system_poll_wait_seconds, options.enable_model_warmup) == (1, True)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            {"model_base_path": ""},
            "Both server_options.model_base_path and server_options.model_config_file are empty!",
        ),
        ({"batching_parameters_file": "/f"}, "server_options.batching_parameters_file is set without setting "),
        (
            {"use_alts_credentials": True, "ssl_config_file": "/f"},
            "Either use_alts_credentials must be false or ssl_config_file must be empty.",
        ),
        (
            dict.fromkeys([f"tensorflow_{kind}_parallelism" for kind in ("session", "intra_op", "inter_op")], 1),
            "You cannot configure all.",
        ),
    ],
)
def test_contradictions(flags: dict[str, Any], message: str) -> None:
    path = flags.pop("model_base_path", "/models/m")
    with pytest.raises(StatusError, match=message) as caught:
        EmbeddedServer(path, **flags)
    assert caught.value.code is Code.INVALID_ARGUMENT


@pytest.mark.parametrize(
    "flags",
    [
        {"port": 99_999},
        {"port": -7},
        {"rest_api_port": 70_000},
        {"tensorflow_session_parallelism": -5},
        {"tensorflow_intra_op_parallelism": -5},
        {"per_process_gpu_memory_fraction": float("nan")},
        {"shutdown_grace_s": float("inf")},
        {"shutdown_grace_s": float("nan")},
    ],
)
def test_numbers_that_can_mean_nothing(flags: dict[str, Any]) -> None:
    (name,) = flags
    with pytest.raises(StatusError, match=f"--{name}=.* is not within") as caught:
        EmbeddedServer("/models/m", **flags)
    assert caught.value.code is Code.INVALID_ARGUMENT


def test_a_session_config_that_does_not_parse(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "session.config"
    file.write_text("nonsense")
    with pytest.raises(StatusError, match=f"Invalid protobuf file: '{file}'"):
        EmbeddedServer("/models/m", tensorflow_session_config_file=str(file))
    assert "Error parsing text-format tensorflow.ConfigProto: " in capfd.readouterr().err
