"""Small SavedModels that the server's tests serve, in the manner of TensorFlow 2 and of TensorFlow 1."""

from collections.abc import Callable
from pathlib import Path

import tensorflow as tf

TYPES = [
    tf.float32, tf.float64, tf.float16, tf.bfloat16, tf.int8, tf.int16, tf.int32, tf.int64,
    tf.uint8, tf.uint16, tf.uint32, tf.uint64, tf.bool, tf.string, tf.complex64, tf.complex128,
]  # fmt: skip
PARSED = {"x": tf.io.FixedLenFeature([1], tf.float32), "x2": tf.io.FixedLenFeature([1], tf.float32, [0.0])}


def _signature(
    function: Callable[..., dict[str, tf.Tensor]], *specs: tuple[str, list[int | None] | None, tf.DType]
) -> tf.types.experimental.ConcreteFunction:
    return tf.function(function).get_concrete_function(
        *[tf.TensorSpec(shape, dtype, name=name) for name, shape, dtype in specs]
    )


def write_model(base: Path, version: int = 1) -> Path:
    """A TF 2 SavedModel with a signature for each behaviour; `serving_default` adds the version to `x` [N, 2]."""
    module = tf.Module()
    module.offset = tf.Variable(float(version))
    module.counter = tf.Variable(0, dtype=tf.int64)
    module.weights = tf.Variable(tf.ones([2, 3]))
    module.table = tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer(["contract", "golden/0"], ["{}", "image"]), "missing"
    )

    def gate(path: tf.Tensor) -> dict[str, tf.Tensor]:
        """Says that it runs by the file `path`.in, and answers once there is `path`.out: see `conftest.Gate`."""
        tf.io.write_file(path[0] + ".in", "")

        def closed(turn: tf.Tensor) -> tf.Tensor:
            # The name takes part in the loop, or the graph optimiser would look only once.
            return tf.equal(tf.size(tf.io.matching_files(path[0] + tf.gather([".out", ".out?"], turn % 2))), 0)

        turns = tf.while_loop(closed, lambda turn: [turn + 1], [0])[0]
        with tf.control_dependencies([turns]):
            return {"y": tf.identity(path)}

    def three(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"double": x * 2, "row": tf.reduce_sum(x, 1), "text_bytes": tf.as_string(x[:, 0])}

    signatures = {
        "serving_default": _signature(lambda x: {"y": x + module.offset}, ("x", [None, 2], tf.float32)),
        "two": _signature(
            lambda a, b: {"sum": a + b, "product": a * b}, ("a", [None], tf.float32), ("b", [None], tf.float32)
        ),
        "three": _signature(three, ("x", [None, 2], tf.float32)),
        "matmul": _signature(lambda x: {"y": tf.linalg.matmul(x, module.weights)}, ("x", [None, 2], tf.float32)),
        "ensured": _signature(lambda x: {"y": tf.ensure_shape(x, [None, 2]) * 1}, ("x", [None, 2], tf.float32)),
        "lookup": _signature(lambda keys: {"values": module.table.lookup(keys)}, ("keys", [None], tf.string)),
        "decode": _signature(lambda text: {"raw": tf.io.decode_base64(text)}, ("text", [None], tf.string)),
        "gate": _signature(gate, ("path", [None], tf.string)),
        "count": _signature(
            lambda x: {"y": x + tf.cast(module.counter.assign_add(1), tf.float32)}, ("x", [None], tf.float32)
        ),
        "constant": _signature(lambda: {"y": module.offset * 1.0}),
        "total": _signature(lambda x: {"y": tf.reduce_sum(x)}, ("x", [None, 2], tf.float32)),
        "row_sizes": _signature(lambda x: {"y": tf.reduce_sum(x, -1), "x": x * 1}, ("x", None, tf.float32)),
        "classify": _signature(_classify, ("inputs", [None], tf.string)),
        "regress": _signature(_regress, ("inputs", [None], tf.string)),
    }
    for dtype in TYPES:
        signatures[f"same_{dtype.name}"] = _signature(lambda x: {"y": tf.identity(x)}, ("x", [None], dtype))
    path = base / str(version)
    tf.saved_model.save(module, str(path), signatures=signatures)
    return path


def _classify(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
    x = tf.io.parse_example(inputs, PARSED)["x"]
    return {"scores": tf.concat([x, -x], 1), "classes": tf.tile([["plus", "minus"]], [tf.shape(x)[0], 1])}


def _regress(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
    return {"outputs": tf.io.parse_example(inputs, PARSED)["x"] + 0.5}


def write_half_plus_two(base: Path, version: int = 123, *, reference_variables: bool = True) -> Path:
    """A TF 1 SavedModel: y = x / 2 + 2, as Predict, Classify and Regress; `serving_default` is the Predict one."""
    v1 = tf.compat.v1
    path = base / str(version)
    with tf.Graph().as_default(), v1.Session() as session:
        a = v1.get_variable("a", initializer=0.5, use_resource=not reference_variables)
        b = v1.get_variable("b", initializer=2.0, use_resource=not reference_variables)
        serialized = v1.placeholder(tf.string, name="tf_example")
        parsed = v1.parse_example(serialized, PARSED)
        x = tf.identity(parsed["x"], name="x")
        y = tf.add(tf.multiply(a, x), b, name="y")
        y2 = tf.add(tf.multiply(a, parsed["x2"]), 3.0, name="y2")
        session.run(v1.global_variables_initializer())
        info = v1.saved_model.build_tensor_info
        examples = {"inputs": info(serialized)}
        define = v1.saved_model.build_signature_def
        builder = v1.saved_model.Builder(str(path))
        builder.add_meta_graph_and_variables(
            session,
            ["serve"],
            signature_def_map={
                "serving_default": define({"x": info(x)}, {"y": info(y)}, "tensorflow/serving/predict"),
                "classify_x_to_y": define(examples, {"scores": info(y)}, "tensorflow/serving/classify"),
                "regress_x_to_y": define(examples, {"outputs": info(y)}, "tensorflow/serving/regress"),
                "regress_x2_to_y2": define(examples, {"outputs": info(y2)}, "tensorflow/serving/regress"),
                "bad_classify": define({"in": info(serialized)}, {"scores": info(y)}, "tensorflow/serving/classify"),
                "bad_regress": define({"in": info(serialized)}, {"outputs": info(y)}, "tensorflow/serving/regress"),
            },
        )
        builder.save()
    return path


def write_broken(base: Path, version: int) -> Path:
    """A version folder whose model can't be loaded."""
    path = base / str(version)
    path.mkdir(parents=True)
    (path / "saved_model.pb").write_bytes(b"\xff\xff this is not a SavedModel")
    return path
