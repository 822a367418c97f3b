"""`flow-images serve`: what it prints, and which flags it refuses before it loads anything."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

from click.testing import CliRunner

from serving.server.run.serve_command import serve as serve_command

ROOT = Path(__file__).resolve().parents[4]


def test_flow_images_serve(written: Path, tmp_path: Path) -> None:
    folder = tmp_path / "two words"
    shutil.copytree(written / "m", folder)
    command = [sys.executable, "-m", "flow_images", "serve", "--model-base-path", str(folder), "--port", "0"]
    command += ["--rest-api-port", "0"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    ready = process.stdout.readline()
    assert ready.startswith("Serving two words version 3 at 127.0.0.1:")
    assert "serving_default" in ready
    link = process.stdout.readline()
    with urllib.request.urlopen(link.split()[-1]) as answer:  # the link that is printed can be opened
        assert json.load(answer)["model_version_status"][0]["state"] == "AVAILABLE"
    assert process.stderr.readline().startswith("Loading ")
    assert process.stderr.readline() == "Ctrl-C stops.\n"
    (folder / "3").rename(folder / "4")
    assert re.match(r"flow-images: Loaded servable two words version 4 in \d+\.\d s\n", process.stderr.readline())
    assert process.stderr.readline() == "flow-images: Unloaded servable two words version 3\n"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130


def test_flow_images_serve_says_what_is_wrong(base: Path, written: Path) -> None:
    run = CliRunner().invoke
    missing = run(serve_command, ["--model-base-path", str(base / "x")])
    assert missing.exit_code == 2
    assert "no such folder" in missing.output
    empty = run(serve_command, ["--model-base-path", str(base)])
    assert empty.exit_code == 2
    assert f"no version folder in {base}" in empty.output
    remote = run(serve_command, ["--model-base-path", "s3://bucket/dogs"])
    assert remote.exit_code == 2
    assert "copy the model to a local folder" in remote.output


def test_flow_images_serve_judges_its_flags_before_it_loads_anything(written: Path, tmp_path: Path) -> None:
    nonsense, version = tmp_path / "nonsense", tmp_path / "store" / "20251101"
    nonsense.write_text("max_batch_size { nonsense")
    version.mkdir(parents=True)
    (version / "saved_model.pb").touch()
    os.mkfifo(tmp_path / "fifo")
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.socket(socket.AF_UNIX) as live:
        live.bind(str(tmp_path / "live"))
        live.listen()
        port = taken.getsockname()[1]
        model = f"--model-base-path={written / 'm'}"
        cases: list[tuple[list[str], int, str]] = [
            (["--model-base-path="], 2, "--model-base-path is empty"),
            ([f"--model-base-path={nonsense}"], 2, "is a file, not a folder"),
            ([f"--model-base-path={version}"], 2, f"give the folder that it is in, {version.parent}"),
            ([model, f"--port={port}"], 1, "choose another --port"),
            ([model, "--port=0", f"--rest-api-port={port}"], 1, "choose another --rest-api-port"),
            ([model, "--port=0", "--host=no.such.host.invalid"], 2, "--host: no.such.host.invalid is not an address"),
            ([model, "--port=0", "--host=192.0.2.1"], 2, "--host: 192.0.2.1 is not an address of this machine"),
            ([model, "--port=0", f"--grpc-socket-path={tmp_path / 'live'}"], 2, "another server listens on"),
            ([model, "--port=0", f"--grpc-socket-path={nonsense}"], 2, "exists already, and is not a socket"),
            ([model, "--port=0", f"--grpc-socket-path=/tmp/{'x' * 120}"], 2, "125 bytes of 107"),
            ([model, "--port=0", f"--grpc-socket-path={tmp_path / 'no' / 'x'}"], 2, "no folder"),
            ([model, "--port=0", f"--batching-parameters-file={nonsense}"], 2, "Invalid protobuf file"),
            ([model, "--port=0", f"--ssl-config-file={tmp_path / 'fifo'}"], 2, "not a file"),
        ]
        for flags, code, message in cases:
            result = CliRunner().invoke(serve_command, flags)
            assert (result.exit_code, message in result.output) == (code, True), (flags, result.output)
