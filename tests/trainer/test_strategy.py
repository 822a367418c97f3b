"""A step that is spread over devices is the step of one device; CPUs stand for GPUs."""

import os
import subprocess
import sys

_PROGRAM = """
import sys
import numpy as np, tensorflow as tf, tf_keras
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from pathlib import Path
from serving.contract import Preprocessing
from tests.conftest import drawn_split
from trainer.demo_data import draw_images
from trainer.fine_tune import fine_tune
from trainer.hub.module import load_module
from trainer.model import model_of
from trainer.train_options import TrainOptions
from trainer.strategy import training_strategy
from trainer.work_folder import WorkFolder
folder = Path(sys.argv[1])
tf_keras.Sequential([tf_keras.layers.Conv2D(4, 5, input_shape=(32, 32, 3)),
                     tf_keras.layers.GlobalAveragePooling2D()]).save(folder / "hub")
draw_images(folder, per_class=6)
split = drawn_split(folder)
labels = sorted({image.label for image in split.training})
found = []
for strategy in (training_strategy("GPU"), training_strategy("CPU")):
    tf_keras.utils.set_random_seed(1)
    with strategy.scope():
        module = load_module(str(folder / "hub"), trainable=True)
    with training_strategy("CPU" if found else "GPU").scope():  # another call gives the same one
        model = model_of(module, 6, 0.3)
    all_but_one = len(split.training) - 1  # so that the last step has an image for one replica and none for the other
    options = TrainOptions(fine_tune=True, augment=True, epochs=2, learning_rate=0.01, batch_size=all_but_one)
    work = WorkFolder.open(str(folder / "work"), [len(found)])
    tuned, again = (fine_tune(model, split, labels, options, preprocessing=Preprocessing(height=32, width=32),
                              weights=np.ones(6, np.float32), work=work, strategy=strategy) for _ in range(2))
    assert again == tuned  # from its checkpoint
    found.append((tuned, model.get_weights()))
    print(strategy.num_replicas_in_sync, "replicas", tuned.history)
np.testing.assert_allclose(np.array(found[0][0].history), np.array(found[1][0].history), rtol=1e-3)
for one, other in zip(found[0][1], found[1][1], strict=True):
    np.testing.assert_allclose(one, other, atol=1e-3)
"""


def test_two_devices_give_the_weights_of_one(tmp_path: object) -> None:
    # GPUs have no oneDNN, which gives an empty batch a wrong shape on some CPUs [TensorFlow 2.21].
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(tmp_path)], capture_output=True, text=True, check=False,
        env={**os.environ, "TF_ENABLE_ONEDNN_OPTS": "0"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "2 replicas" in done.stdout
