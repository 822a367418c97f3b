"""When a model is optimised: models with a pipeline once for each signature, others as their session does it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow.python.saved_model import loader_impl

from serving.server.models.graph_optimizer import optimize_calls, quick
from serving.server.models.servable import GraphSession, session_config
from serving.server.run.server_options import ServerOptions
from tests.serving.server.saved_models import write_half_plus_two, write_model


def write_pipeline(base: Path) -> Path:
    """`serving_default` squares `x` [N] in a tf.data pipeline."""

    def squares(x: tf.Tensor) -> dict[str, tf.Tensor]:
        rows = tf.data.Dataset.from_tensor_slices(x).map(lambda row: row * row)
        return {"y": rows.batch(100).reduce(tf.zeros([0]), lambda _, batch: batch)}

    signature = tf.function(squares, input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    tf.saved_model.save(tf.Module(), str(base / "1"), signatures=signature)
    return base / "1"


def meta_graph(path: Path) -> meta_graph_pb2.MetaGraphDef:
    found: meta_graph_pb2.MetaGraphDef = loader_impl.SavedModelLoader(str(path)).get_meta_graph_def_from_tags(["serve"])
    return found


def quick_config() -> tf.compat.v1.ConfigProto:
    config = tf.compat.v1.ConfigProto()
    quick(config)
    return config


def test_a_pipeline_s_functions_are_not_optimised_for_each_request(tmp_path: Path) -> None:
    model, config = meta_graph(write_pipeline(tmp_path)), quick_config()
    session = optimize_calls(model, config)
    assert session.graph_options.rewrite_options.disable_meta_optimizer
    (call,) = (node for node in model.graph_def.node if node.name == "StatefulPartitionedCall")
    own = tf.compat.v1.ConfigProto.FromString(call.attr["config_proto"].s).graph_options.rewrite_options
    assert not own.disable_meta_optimizer
    assert own.meta_optimizer_iterations == config.graph_options.rewrite_options.meta_optimizer_iterations


def test_calls_of_a_session_without_optimiser_are_optimised(tmp_path: Path) -> None:
    model, config = meta_graph(write_pipeline(tmp_path)), quick_config()
    config.graph_options.rewrite_options.disable_meta_optimizer = True  # as for a session behind a batch scheduler
    optimize_calls(model, config)
    (call,) = (node for node in model.graph_def.node if node.name == "StatefulPartitionedCall")
    own = tf.compat.v1.ConfigProto.FromString(call.attr["config_proto"].s)
    assert not own.graph_options.rewrite_options.disable_meta_optimizer


def test_models_without_pipeline_are_left_to_their_session(tmp_path: Path) -> None:
    writers: list[Callable[[Path], Path]] = [write_model, write_half_plus_two]
    for writer in writers:
        model, config = meta_graph(writer(tmp_path / writer.__name__)), quick_config()
        before = model.SerializeToString(deterministic=True)
        assert optimize_calls(model, config) is config
        assert model.SerializeToString(deterministic=True) == before


def test_a_pipeline_answers_as_it_does_without_a_server(tmp_path: Path) -> None:
    path = write_pipeline(tmp_path)
    options = ServerOptions(model_base_path=str(tmp_path), port=8500)
    session = GraphSession(str(path), ["serve"], session_config(options))
    signature, x = session.signatures["serving_default"], np.array([1, -2, 3], np.float32)
    for _ in range(2):
        (y,) = session.run({signature.inputs["x"].name: x}, [signature.outputs["y"].name], None)
        assert y.tolist() == [1, 4, 9]
    session.close()
