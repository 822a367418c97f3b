"""Ctrl-C and SIGTERM at each stage of `train` and `demo`, each held in place: one line, the code, nothing half done."""

import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import tensorflow as tf

from tests.conftest import IMAGE_SIZE

pytestmark = pytest.mark.faults

SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143)]


class Run:
    """A command as a process; stderr goes to a file."""

    def __init__(self, log: Path, words: list[object], stdout: int) -> None:
        self._log = log
        command = [sys.executable, "-m", "flow_images", *map(str, words)]
        with log.open("wb") as file:
            self.process = subprocess.Popen(command, stdout=stdout, stderr=file)

    @property
    def said(self) -> str:
        return self._log.read_text()

    def wait_until(self, there: Callable[[], object]) -> None:
        """Returns when something is there; the run must not end before."""
        while not there():
            assert self.process.poll() is None, self.said
            time.sleep(0.02)

    def stop(self, number: signal.Signals, times: int = 1) -> int:
        for _ in range(times):
            self.process.send_signal(number)
            time.sleep(0.2)  # two at once may be heard as one
        return self.process.wait(120)


Start = Callable[..., Run]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Starts a command; whatever still runs in the end is killed."""
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "cache"))
    runs: list[Run] = []

    def begin(*words: object, stdout: int = subprocess.DEVNULL) -> Run:
        runs.append(Run(tmp_path / "stderr", list(words), stdout))
        return runs[-1]

    yield begin
    for run in runs:
        if run.process.poll() is None:
            for child in psutil.Process(run.process.pid).children(recursive=True):
                child.kill()
            run.process.kill()
            run.process.wait()


@pytest.fixture
def flags(drawn: Path, hub_module: Path, tmp_path: Path) -> list[object]:
    """A complete training that lasts for ever."""
    return ["train", "--labels", drawn / "labels.csv", "--images", drawn / "train", "--hub-model", hub_module,
            "--image-size", IMAGE_SIZE, "--model-store", tmp_path / "models", "--name", "m", "--version", 5,
            "--epochs", 100_000]  # fmt: skip


NOTHING = "flow-images train: interrupted; nothing was published"


def assert_nothing_is_left(run: Run, tmp_path: Path) -> None:
    assert NOTHING in run.said
    assert run.said.count("interrupted") == 1
    assert "Traceback" not in run.said
    models = tmp_path / "models" / "m"
    assert not models.exists() or list(models.iterdir()) == []


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_while_tensorflow_is_imported(
    start: Start, flags: list[object], tmp_path: Path, number: signal.Signals, code: int
) -> None:
    run = start(*flags)
    maps = Path(f"/proc/{run.process.pid}/maps")
    run.wait_until(lambda: "libtensorflow" in maps.read_text())
    assert run.stop(number) == code
    assert_nothing_is_left(run, tmp_path)
    assert run.said.endswith("loading the hub module\nflow-images train: interrupted; nothing was published\n")


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_while_the_hub_module_is_waited_for(
    start: Start, flags: list[object], tmp_path: Path, number: signal.Signals, code: int
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/gabor.tar.gz"
        run = start(*flags, "--hub-model", url)
        run.wait_until(lambda: f"still waiting for the hub module {url}" in run.said)
        assert run.stop(number) == code
    assert_nothing_is_left(run, tmp_path)
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".flock"]  # which the next run can take


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_between_epochs(start: Start, flags: list[object], tmp_path: Path, number: signal.Signals, code: int) -> None:
    run = start(*flags)
    run.wait_until(lambda: "epoch   1/" in run.said)
    assert run.stop(number) == code
    assert_nothing_is_left(run, tmp_path)
    assert f"{NOTHING}; the same command continues with what is kept\n" in run.said


@pytest.mark.parametrize("times", [1, 2])
def test_in_a_step_that_does_not_end(start: Start, flags: list[object], tmp_path: Path, times: int) -> None:
    class Endless(tf.Module):
        """Says that it is asked, and never answers."""

        @tf.function(input_signature=[tf.TensorSpec([None, IMAGE_SIZE, IMAGE_SIZE, 3], tf.float32)])
        def __call__(self, images: tf.Tensor) -> tf.Tensor:
            with tf.control_dependencies([tf.print("in the step")]):
                number = tf.while_loop(lambda n: n >= 0.0, lambda n: [n * 0.0], [tf.reduce_sum(images) * 0.0])[0]
            return tf.reduce_mean(images, [1, 2]) + number

    tf.saved_model.save(Endless(), str(tmp_path / "endless"))
    run = start(*flags, "--hub-model", tmp_path / "endless")
    run.wait_until(lambda: "in the step" in run.said)
    assert run.stop(signal.SIGINT, times) == 130
    assert_nothing_is_left(run, tmp_path)


def test_while_the_model_is_written_and_checked(
    start: Start, flags: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    run = start(*flags, "--epochs", 1)
    models = tmp_path / "models" / "m"
    run.wait_until(lambda: list(models.glob(".publishing-5-*/5/saved_model.pb")))
    assert list((tmp_path / "temporary").glob("__autograph*"))
    assert run.stop(signal.SIGTERM) == 143
    assert_nothing_is_left(run, tmp_path)
    assert list((tmp_path / "temporary").iterdir()) == []


def test_while_the_table_is_shown_the_model_stays_published(start: Start, flags: list[object], tmp_path: Path) -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    try:
        while True:  # so full that the table is waited with
            os.write(write, b"x" * fcntl.fcntl(write, fcntl.F_GETPIPE_SZ))
    except BlockingIOError:
        os.set_blocking(write, True)
    run = start(*flags, "--epochs", 1, stdout=write)
    version = tmp_path / "models" / "m" / "5"
    run.wait_until(lambda: version.exists() and not list(version.parent.glob(".publishing*")))
    assert run.stop(signal.SIGINT) == 130
    assert f"flow-images train: interrupted; {version} was published before\n" in run.said
    assert "Traceback" not in run.said
    assert tf.saved_model.load(str(version)).signatures["contract"]
    os.close(read)
    os.close(write)


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_the_demo_passes_a_signal_on(
    start: Start, drawn: Path, hub_module: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    run = start("demo", "--output", tmp_path, "--epochs", 100_000)
    run.wait_until(lambda: "epoch   1/" in run.said)
    children = psutil.Process(run.process.pid).children(recursive=True)
    assert run.stop(number) == code
    assert children
    assert not [child for child in children if child.is_running()]
    assert NOTHING in run.said
    assert run.said.count("interrupted") == 1
    assert not (tmp_path / "models").exists()


def test_the_demo_stops_while_it_makes_its_images(start: Start, tmp_path: Path) -> None:
    run = start("demo", "--output", tmp_path)
    run.wait_until(lambda: list((tmp_path / "images").rglob("*.jpg")))
    assert run.stop(signal.SIGTERM) == 143
    assert run.said == "flow-images demo: interrupted\n"


def test_a_signal_in_a_destructor_ends_it_without_a_traceback() -> None:
    script = """
import os, signal, time
from trainer.clean_stop import stoppable

class Dropped:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)  # the signal is raised in here, where an exception is lost

with stoppable(lambda: "interrupted", within_s=0.2):
    Dropped()
    time.sleep(60)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (130, "interrupted\n")
