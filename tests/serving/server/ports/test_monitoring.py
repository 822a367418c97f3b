"""The Prometheus page."""

import contextlib
from pathlib import Path

import grpc
import httpx
import numpy as np
import pytest

from serving.server import EmbeddedServer
from serving.server.ports import monitoring
from tests.serving.server.client import Client, examples


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "monitoring.config"
    file.write_text('prometheus_config { enable: true path: "/metrics" }')
    return file


def page(server: EmbeddedServer, path: str = "/metrics") -> httpx.Response:
    return httpx.get(f"http://{server.rest_address}{path}", timeout=60)


def test_requests_are_counted_and_timed(written: Path, config: Path) -> None:
    with EmbeddedServer(
        written / "m", model_name="m", rest_api_port=-1, monitoring_config_file=str(config), enable_batching=True
    ) as server:
        client = Client(server.address)
        for _ in range(3):
            client.predict(x=np.zeros([1, 2], np.float32))
        with contextlib.suppress(grpc.RpcError):
            client.predict("other")
        client.regress("regress", examples(1, 2))
        httpx.post(f"http://{server.rest_address}/v1/models/m:predict", json={"instances": [[1, 2]]})
        answer = page(server)
    assert answer.headers["content-type"].startswith("text/plain")
    lines = answer.text.splitlines()
    prefix = ":tensorflow:serving:"
    assert f"# TYPE {prefix}request_count counter" in lines
    assert f"# TYPE {prefix}request_latency histogram" in lines
    assert f"# TYPE {prefix}request_example_count_total counter" in lines
    assert not [line for line in lines if line.startswith("# HELP")]
    assert f'{prefix}request_count{{model_name="m",status="OK"}} 5' in lines
    assert f'{prefix}request_count{{model_name="m",status="FAILED_PRECONDITION"}} 1' in lines
    latency = f'{prefix}request_latency_count{{model_name="m",API='
    assert f'{latency}"Predict",entrypoint="GRPC"}} 3' in lines
    assert f'{latency}"predict",entrypoint="REST"}} 1' in lines
    assert f'{prefix}runtime_latency_count{{model_name="m",API="Predict",runtime="TF1"}} 4' in lines
    assert f'{prefix}request_example_count_total{{model="m"}} 2' in lines
    assert f"{prefix}batching_session:wrapped_run_count{{}} 5" in lines
    buckets = [line for line in lines if line.startswith(f"{prefix}request_latency_bucket")]
    assert any('le="10.0"' in line for line in buckets)
    assert any('le="+Inf"' in line for line in buckets)


def test_without_the_file_there_is_no_page(written: Path) -> None:
    with EmbeddedServer(written / "m", model_name="m", rest_api_port=-1) as server:
        assert page(server, "/monitoring/prometheus/metrics").status_code == 404


def test_the_default_path(written: Path, tmp_path: Path) -> None:
    file = tmp_path / "monitoring.config"
    file.write_text("prometheus_config { enable: true }")
    with EmbeddedServer(written / "m", model_name="m", rest_api_port=-1, monitoring_config_file=str(file)) as server:
        assert page(server, "/monitoring/prometheus/metrics").status_code == 200


def test_names_that_clients_make_up_do_not_fill_the_memory() -> None:
    metrics = monitoring.Metrics()
    for name in [*map(str, range(monitoring.MAX_MODELS + 10)), "long" * 100]:
        with metrics.request(name, "Predict", "GRPC"):
            pass
    shown = [line for line in metrics.page().splitlines() if line.startswith(":tensorflow:serving:request_count{")]
    assert len(shown) == monitoring.MAX_MODELS + 1
    assert f':tensorflow:serving:request_count{{model_name="{monitoring.OTHER}",status="OK"}} 11' in shown
