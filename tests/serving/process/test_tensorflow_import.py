"""TensorFlow in a process that was forked: it works, or is refused at once; it never hangs."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import MODEL_NAME

_RUN = """
import os, sys, traceback
{before}
child = os.fork()
if child == 0:
    try:
        import flow_images as fi
        {task}
        print("done")
    except Exception as error:
        print(type(error).__name__, error)
    sys.stdout.flush()
    os._exit(0)
os.waitpid(child, 0)
"""
_CLASSIFY = """
import flow_images as fi
client = fi.Client({server!r}, {model!r}, wire={wire!r})
client.classify({image!r})
"""
_OP = "import tensorflow as tf; tf.constant(1) + 1"


def forked(before: str, task: str) -> str:
    """What a task says in the child of a process that did something before the fork."""
    script = _RUN.format(before=before, task=task)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=True)
    return done.stdout.strip()


@pytest.fixture(scope="module")
def image(drawn: Path) -> str:
    return str(min((drawn / "train").iterdir()))


def make(server: str, wire: str) -> str:
    return f"fi.Client({server!r}, {MODEL_NAME!r}, wire={wire!r})"


def test_after_tensorflow_ran_a_forked_process_is_told_of_spawn(tmp_path: Path) -> None:
    tasks = [
        f"fi.EmbeddedServer({str(tmp_path)!r})",
        f"fi.train(folder={str(tmp_path)!r}, hub_model='module', model_store={str(tmp_path)!r}, name='m')",
    ]
    for task in tasks:
        said = forked(_OP, task)
        assert said.startswith("UsageError this process was forked"), (task, said)
        assert "`spawn`" in said


@pytest.mark.parametrize("wire", ["float32", "uint8", "encoded"])
def test_after_tensorflow_ran_a_forked_process_can_ask_in_any_wire_form(server: str, image: str, wire: str) -> None:
    assert forked(_OP, f"assert {make(server, wire)}.classify({image!r}).ok") == "done"


def test_after_tensorflow_ran_a_forked_process_can_predict(server: str, image: str, tmp_path: Path) -> None:
    output = str(tmp_path / "out")
    task = (
        f"assert fi.predict(inputs=[{image!r}], output={output!r}, server={server!r}, model_name={MODEL_NAME!r}, "
        "wire='float32').predicted == 1"
    )
    assert forked(_OP, task) == "done"


@pytest.mark.parametrize("before", ["import tensorflow", "files were sent"])
def test_a_process_forked_before_tensorflow_ran_may_use_it(server: str, image: str, before: str) -> None:
    sent = _CLASSIFY.format(server=server, model=MODEL_NAME, wire="encoded", image=image)
    ran = sent if before == "files were sent" else before
    assert forked(ran, f"assert {make(server, 'uint8')}.classify({image!r}).ok; {_OP}") == "done"


def test_keras_can_be_left_for_its_first_use() -> None:
    script = """
import sys
from serving.process.tensorflow_import import import_tensorflow
import_tensorflow(keras=False)
assert not {"keras", "tf_keras", "sklearn", "matplotlib"} & set(sys.modules)
import tensorflow as tf
from tensorflow.keras import layers
print(tf.keras.layers.Dense is layers.Dense, tf.losses.MeanSquaredError.__name__)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout.strip() == "True MeanSquaredError"
