"""TensorFlow Serving's own config files: those that we ship, and those that don't parse."""

import re
from pathlib import Path
from typing import Any

import pytest
from tensorflow_serving.config import model_server_config_pb2

from serving.server.models import config, textprotos
from serving.server.models.batching import BatchingOptions
from serving.server.rpc.status_error import StatusError

SHIPPED = Path(config.__file__).resolve().parents[1] / "config"


def test_the_shipped_models_config_keeps_two_versions() -> None:
    proto = textprotos.read(str(SHIPPED / "models.config"), model_server_config_pb2.ModelServerConfig())
    (model,) = config.check(proto).values()
    assert model.base_path == "/models/dogs"
    assert sorted(model.choose({1: "a", 2: "b", 3: "c"})) == [2, 3]


def test_the_shipped_batching_config() -> None:
    options = BatchingOptions.from_file(str(SHIPPED / "batching.config"))
    assert options.max_batch_size >= 32
    assert options.batch_timeout_micros > 0


def test_the_shipped_monitoring_config() -> None:
    proto = textprotos.read(str(SHIPPED / "monitoring.config"), textprotos.MonitoringConfig())
    assert proto.prometheus_config.enable


def test_all_fields_of_batching_parameters(tmp_path: Path) -> None:
    file = tmp_path / "batching.config"
    file.write_text(
        "max_batch_size { value: 8 } batch_timeout_micros { value: 5 } max_enqueued_batches { value: 7 } "
        'num_batch_threads { value: 3 } thread_pool_name { value: "pool" } '
        "allowed_batch_sizes: 4 allowed_batch_sizes: 8 pad_variable_length_inputs: true "
        "enable_large_batch_splitting { value: true } max_execution_batch_size { value: 4 }"
    )
    assert BatchingOptions.from_file(str(file)) == BatchingOptions(
        max_batch_size=8,
        batch_timeout_micros=5,
        max_enqueued_batches=7,
        num_batch_threads=3,
        thread_pool_name="pool",
        allowed_batch_sizes=(4, 8),
        pad_variable_length_inputs=True,
        enable_large_batch_splitting=True,
        max_execution_batch_size=4,
    )


@pytest.mark.parametrize("text", ["nonsense", "max_batch_size: 8", "max_batch_size { value: x }"])
def test_files_that_do_not_parse(tmp_path: Path, text: str, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "batching.config"
    file.write_text(text)
    with pytest.raises(StatusError, match=f"Invalid protobuf file: '{file}'"):
        BatchingOptions.from_file(str(file))
    assert "Error parsing text-format tensorflow.serving.BatchingParameters: " in capfd.readouterr().err


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StatusError, match=r"NOT_FOUND: .*none; No such file or directory"):
        BatchingOptions.from_file(str(tmp_path / "none"))


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([{"base_path": "a"}, {"base_path": "/b"}], "Illegal to list model m multiple times"),
        ([{"base_path": "a"}], "Expected model m to have an absolute path or URI"),
        ([{}], "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "),
        (
            [{"model_type": 1, "model_platform": "tensorflow"}],
            "Illegal setting both ModelServerConfig::model_type (dep",
        ),
        ([{"model_type": 2}], "ModelServerConfig::model_type choice 2 not supported."),
        (
            [{"model_platform": "x"}],
            "Illegal to change a model's platform. For model m platform was tensorflow and new ",
        ),
        ([{"model_platform": "x", "name": "n"}], "Model n requests unsupported platform x"),
    ],
)
def test_entries_that_are_refused(entries: list[dict[str, Any]], message: str) -> None:
    proto = model_server_config_pb2.ModelServerConfig()
    for entry in entries:
        proto.model_config_list.config.add(**{"name": "m", "base_path": "/m"} | entry)
    with pytest.raises(StatusError, match=re.escape(message)):
        config.check(proto, known={"m"})


def test_the_deprecated_type() -> None:
    proto = model_server_config_pb2.ModelServerConfig()
    proto.model_config_list.config.add(name="m", base_path="/m", model_type=1)
    assert list(config.check(proto)) == ["m"]
