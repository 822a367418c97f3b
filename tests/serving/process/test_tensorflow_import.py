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


@pytest.mark.parametrize("before", ["a client", "a program"])
def test_after_tensorflow_ran_a_forked_process_is_told_of_spawn(
    server: str, image: str, before: str, tmp_path: Path
) -> None:
    ran = _CLASSIFY.format(server=server, model=MODEL_NAME, wire="uint8", image=image) if before == "a client" else _OP
    tasks = [
        f"{make(server, 'float32')}.contract()",
        f"fi.predict(inputs=[{image!r}], output={str(tmp_path)!r}, server={server!r}, model_name={MODEL_NAME!r})",
        f"fi.EmbeddedServer({str(tmp_path)!r})",
        f"fi.train(folder={str(tmp_path)!r}, hub_model='module', model_store={str(tmp_path)!r}, name='m')",
    ]
    if before == "a client":
        tasks.append(f"client.classify({image!r})")  # the parent's own
    for task in tasks:
        said = forked(ran, task)
        assert said.startswith("UsageError this process was forked"), (task, said)
        assert "`spawn`" in said


def test_after_tensorflow_ran_files_can_be_sent_by_a_forked_process(server: str, image: str) -> None:
    ran = _CLASSIFY.format(server=server, model=MODEL_NAME, wire="uint8", image=image)
    assert forked(ran, f"assert {make(server, 'encoded')}.classify({image!r}).ok") == "done"


@pytest.mark.parametrize("before", ["import tensorflow", "files were sent"])
def test_a_process_forked_before_tensorflow_ran_may_use_it(server: str, image: str, before: str) -> None:
    sent = _CLASSIFY.format(server=server, model=MODEL_NAME, wire="encoded", image=image)
    ran = sent if before == "files were sent" else before
    assert forked(ran, f"assert {make(server, 'uint8')}.classify({image!r}).ok") == "done"


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
