"""The job through Beam's portable API, as Flink and Dataflow run it: a job service and workers in other processes.

The job service is Beam's own in Python, and Prism, its runner in Go, where that is installed.
"""

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import MODEL_NAME, free_port, wait_for_port


def job_service(kind: str, port: int) -> list[str]:
    """The command that starts it."""
    if kind == "python":
        return [sys.executable, "-m", "apache_beam.runners.portability.local_job_service_main", "--port", str(port)]
    prism = shutil.which("prism")
    if prism is None:
        pytest.skip("needs `prism`: go install github.com/apache/beam/sdks/v2/go/cmd/prism@v2.77.0")
    return [prism, f"--job_port={port}", "--serve_http=false", "--idle_shutdown_timeout=-1s"]


@pytest.fixture(params=["python", "prism"])
def portable_runner(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[str]]:
    """Beam's flags for a job service and an external worker pool, both on this machine."""
    job_port, worker_port = free_port(), free_port()
    commands = [
        job_service(request.param, job_port),
        [sys.executable, "-m", "apache_beam.runners.worker.worker_pool_main", f"--service_port={worker_port}"],
    ]
    # The pool starts its workers as `python`, so that must be this one.
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    with (tmp_path / "beam.log").open("wb") as log:
        processes = [subprocess.Popen(command, env=environment, stdout=log, stderr=log) for command in commands]
        try:
            for port in (job_port, worker_port):
                wait_for_port(port)
            yield [
                "--runner=PortableRunner",
                f"--job_endpoint=localhost:{job_port}",
                "--environment_type=EXTERNAL",
                f"--environment_config=localhost:{worker_port}",
            ]
        finally:
            for process in processes:
                process.terminate()
                process.wait()


def predict(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flow_images", "predict", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)


def test_workers_in_other_processes_write_what_a_local_run_writes(
    portable_runner: list[str], server: str, drawn: Path, tmp_path: Path
) -> None:
    arguments = ["--server", server, "--model-name", MODEL_NAME, "--input", f"{drawn}/train", "--wire", "encoded"]
    local = predict([*arguments, "--output", f"{tmp_path}/local"])
    portable = predict([*arguments, "--output", f"{tmp_path}/portable", "--", *portable_runner])
    assert (local.returncode, portable.returncode) == (0, 0), portable.stderr
    assert portable.stdout.splitlines()[0] == local.stdout.splitlines()[0]
    tables = []
    for name in ("local", "portable"):
        with open(tmp_path / name / "predictions.csv", newline="") as file:
            tables.append([(row["path"], row["label"]) for row in csv.DictReader(file)])
    assert tables[0] == tables[1]


def test_an_error_in_a_worker_reaches_the_user_with_its_exit_code(
    portable_runner: list[str], server: str, drawn: Path, tmp_path: Path
) -> None:
    """A part that can't be written stops the run resumable, wherever the worker is."""
    arguments = ["--server", server, "--model-name", MODEL_NAME, "--input", f"{drawn}/train", "--wire", "encoded",
                 "--output", f"{tmp_path}/out", "--patience", "1"]  # fmt: skip
    (tmp_path / "out" / "_state").mkdir(parents=True)
    (tmp_path / "out" / "_state" / "parts").write_text("in the way of the parts' folder")
    stopped = predict([*arguments, "--", *portable_runner])
    assert stopped.returncode in (1, 75), stopped.stderr
    # Beam logs the worker's traceback; our own line comes last.
    assert stopped.stderr.splitlines()[-1].startswith("flow-images predict: ")
    assert "_state/parts" in stopped.stderr.splitlines()[-1]
    assert not (tmp_path / "out" / "run.json").exists()
    (tmp_path / "out" / "_state" / "parts").unlink()
    assert predict([*arguments, "--", *portable_runner]).returncode == 0
    assert json.loads((tmp_path / "out" / "run.json").read_text())["predicted"] == 48
