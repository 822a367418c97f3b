"""What TensorFlow's graph optimiser does to a model: its work once for each signature, and none in later requests.

A session optimises its graph when it is first run, and from then on each function that an operation sets up. A tf.data
pipeline, with which our models decode images, sets up its functions for each request, which took 4 ms of it. But a
function that a graph calls is optimised at its first call, as the call says, and TensorFlow 2 exports each signature
as such a call. So in a model with a pipeline the calls say how to optimise, and the session is told not to. Others are
left as they are, since a call computes all outputs, and an optimised graph only those that are asked for.
"""

import contextlib
from collections.abc import Iterator

import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2, rewriter_config_pb2
from tensorflow.python.eager import context


def quick(config: tf.compat.v1.ConfigProto) -> None:
    """Leaves out what takes half of the optimiser's time and finds next to nothing in a model that is served."""
    rewriting = config.graph_options.rewrite_options
    rewriting.meta_optimizer_iterations = rewriter_config_pb2.RewriterConfig.ONE
    rewriting.memory_optimization = rewriter_config_pb2.RewriterConfig.NO_MEM_OPT
    rewriting.disable_tfg_optimizer = True


@contextlib.contextmanager
def quick_calls() -> Iterator[None]:
    """A block in which calls that this thread adds to a graph are optimised quickly."""
    here = context.context()
    before = here.function_call_options
    config = tf.compat.v1.ConfigProto.FromString(before.config_proto_serialized)
    quick(config)
    here.function_call_options = context.FunctionCallOptions(config_proto=config)
    try:
        yield
    finally:
        here.function_call_options = before


def without_optimizer(config: tf.compat.v1.ConfigProto) -> tf.compat.v1.ConfigProto:
    """The same config for a session that optimises nothing by itself."""
    plain = tf.compat.v1.ConfigProto()
    plain.CopyFrom(config)
    plain.graph_options.rewrite_options.disable_meta_optimizer = True
    return plain


def optimize_calls(
    meta_graph: meta_graph_pb2.MetaGraphDef, config: tf.compat.v1.ConfigProto
) -> tf.compat.v1.ConfigProto:
    """Makes the calls that a model's signatures consist of say how they are optimised.

    Args:
      meta_graph: the model; its calls are changed, if all of its signatures are calls and it has a pipeline.
      config: of the session, with the optimiser's options.

    Returns:
      The config for the session: without optimiser if the calls have it.
    """
    calls = {node.name: node for node in meta_graph.graph_def.node if "config_proto" in node.attr}
    outputs = [
        output.name
        for name, signature in meta_graph.signature_def.items()
        if not name.startswith("__saved_model")  # TensorFlow's own, for what it does when it loads the model
        for output in signature.outputs.values()
    ]
    if any(name.partition(":")[0] not in calls for name in outputs) or not _has_pipeline(meta_graph):
        return config
    options = rewriter_config_pb2.RewriterConfig()
    options.CopyFrom(config.graph_options.rewrite_options)
    options.ClearField("disable_meta_optimizer")
    for call in calls.values():
        own = tf.compat.v1.ConfigProto.FromString(call.attr["config_proto"].s)
        own.graph_options.rewrite_options.MergeFrom(options)
        call.attr["config_proto"].s = own.SerializeToString()
    return without_optimizer(config)


def _has_pipeline(meta_graph: meta_graph_pb2.MetaGraphDef) -> bool:
    functions = meta_graph.graph_def.library.function
    return any("Dataset" in node.op for function in functions for node in function.node_def)
