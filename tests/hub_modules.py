"""Hub modules of kinds that the demo does not draw."""

import subprocess
import sys
from pathlib import Path

import tensorflow as tf

_KERAS_3 = """
import sys
import keras, numpy as np
keras.utils.set_random_seed(0)
images = np.random.default_rng(0).random((2, 32, 32, 3), np.float32)
layers = [keras.layers.Conv2D(6, 3, strides=2), keras.layers.BatchNormalization()]
for kind, last in ("map", []), ("vector", [keras.layers.GlobalAveragePooling2D()]):
    backbone = keras.Sequential([keras.Input((32, 32, 3)), *layers, *last])
    backbone.export(f"{sys.argv[1]}/{kind}")
    np.save(f"{sys.argv[1]}/{kind}.npy", np.asarray(backbone(images)))
"""


def keras_3_module(folder: Path) -> Path:
    """Writes two backbones as Keras 3 exports them, `map` and `vector`, for images of 32 x 32 pixels.

    Beside each is what it answers to the first two images of a random generator (.npy).
    """
    folder.mkdir(exist_ok=True)
    subprocess.run([sys.executable, "-c", _KERAS_3, str(folder)], check=True, capture_output=True)
    return folder


def tensorflow_1_module(folder: Path) -> str:
    """Writes a module of TensorFlow 1 of 4 features, each the sum of an image's mean colours; 32 x 32 pixels."""
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        images = v1.placeholder(tf.float32, [None, 32, 32, 3])
        kernel = v1.get_variable("kernel", [3, 4], initializer=v1.ones_initializer())
        features = tf.matmul(tf.reduce_mean(images, [1, 2]), kernel)
        session.run(v1.global_variables_initializer())
        signature = v1.saved_model.predict_signature_def({"images": images}, {"default": features})
        builder = v1.saved_model.Builder(str(folder))
        builder.add_meta_graph_and_variables(session, [], signature_def_map={"default": signature})
        builder.save()
    (folder / "tfhub_module.pb").write_bytes(b"\x08\x03")  # format 3, by which TF Hub knows them
    return str(folder)
