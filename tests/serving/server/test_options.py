"""Flags that contradict each other or are out of range are refused before anything is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from serving.server import EmbeddedServer
from serving.server.rpc.status import Code, StatusError


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
