"""A servable: one version of a SavedModel, run as TensorFlow Serving runs it.

That is as a session over the graph, in which named tensors are fed and fetched, whether the model was exported by
TensorFlow 1 or 2. The session is entered below its Python `run`, which would check shapes against the placeholders and
cast dtypes without a word; here, as in the binary, only kernels and the dtype check of the runtime complain.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow.python.client import pywrap_tf_session
from tensorflow.python.saved_model import loader_impl
from tensorflow.python.saved_model.pywrap_saved_model import fingerprinting

from serving.model_store.versions import MODEL_FILES
from serving.server.models import graph_optimizer, textprotos
from serving.server.rpc.status_error import Code, StatusError, from_exception, invalid_argument
from serving.server.rpc.tensors import Array
from serving.server.run.server_options import ServerOptions

DEFAULT_SIGNATURE = "serving_default"


Run: TypeAlias = Callable[[Mapping[str, Array], Sequence[str], float | None], list[Array]]


class Runner(Protocol):
    """Feeds and fetches tensors of one graph: a session, or a session behind a batching layer."""

    def run(self, feeds: Mapping[str, Array], fetches: Sequence[str], timeout_s: float | None) -> list[Array]:
        """Runs the graph once.

        Args:
          feeds: tensor name (`x:0`) to array; strings as object arrays of bytes.
          fetches: tensor names.
          timeout_s: after this the run is cancelled; None for no limit.

        Returns:
          One array per fetch, in order.

        Raises:
          StatusError: with the code and text of whatever refused.
        """
        ...

    def close(self) -> None:
        """Frees the session; nothing may run in it."""
        ...


class GraphSession:
    """A SavedModel's graph in a session of its own, with its variables restored and its tables initialised."""

    def __init__(
        self, path: str, tags: Sequence[str], config: tf.compat.v1.ConfigProto, *, strict: bool = False
    ) -> None:
        """Loads the meta graph with these tags from the version folder `path`.

        Args:
          path: with saved_model.pb in it.
          tags: those of the meta graph, exactly.
          config: the session's.
          strict: as the binary does it: a model whose variables' files are missing is loaded, too, and what uses them
            will fail; and each function that a request sets up is optimised.

        Raises:
          StatusError: NOT_FOUND without a SavedModel or its tags; UNIMPLEMENTED for a session bundle; else the code
            of what failed in TensorFlow.
        """
        _check_folder(path)
        self._outputs: dict[str, Any] = {}
        self.graph = tf.Graph()
        loader, meta_graph = _read(path, tags)
        # A copy, so that the rest of the meta graph can go: it may hold all weights.
        self.signatures = dict(meta_graph_pb2.MetaGraphDef(signature_def=meta_graph.signature_def).signature_def)
        if not strict:
            config = graph_optimizer.optimize_calls(meta_graph, config)
        self._session = tf.compat.v1.Session(graph=self.graph, config=config)
        try:
            with self.graph.as_default():
                saver, _ = loader.load_graph(self.graph, tags)
                index = f"{loader.variables_path}.index"
                if saver is None or tf.io.gfile.exists(index):
                    loader.restore_variables(self._session, saver)
                elif not strict:
                    raise StatusError(Code.NOT_FOUND, f"the model's variables are missing: no file {index}")
                loader.run_init_ops(self._session, tags)
            self.extend()
        except Exception as error:
            self.close()
            raise from_exception(error) from error

    def extend(self) -> None:
        """Makes nodes that were added to `graph` known to the session."""
        self._session._extend_graph()

    def run(self, feeds: Mapping[str, Array], fetches: Sequence[str], timeout_s: float | None) -> list[Array]:
        """See `Runner.run`."""
        by_output = {self.output(name): array for name, array in feeds.items()}
        return self.run_outputs(by_output, [self.output(name) for name in fetches], timeout_s)

    def run_outputs(self, feeds: Mapping[Any, Array], fetches: list[Any], timeout_s: float | None) -> list[Array]:
        """`run` with the tensors as handles from `output`."""
        options = None
        if timeout_s is not None:
            if timeout_s <= 0:
                raise StatusError(Code.DEADLINE_EXCEEDED, "Timed out before the run began")
            milliseconds = max(1, min(int(timeout_s * 1000), 2**31))
            proto = tf.compat.v1.RunOptions(timeout_in_ms=milliseconds)
            options = pywrap_tf_session.TF_NewBufferFromString(proto.SerializeToString())
        try:
            result: list[Array] = pywrap_tf_session.TF_SessionRun_wrapper(
                self._session._session, options, feeds, fetches, [], None
            )
        except tf.errors.OpError as error:
            raise from_exception(error) from error
        except UnicodeDecodeError as error:
            # A kernel quotes bytes of the request: its message could not become a str, and its code is lost.
            raise invalid_argument(error.object.decode("utf-8", "replace")) from error
        finally:
            if options is not None:
                pywrap_tf_session.TF_DeleteBuffer(options)
        return result

    def tensor(self, name: str) -> Any:
        """The graph's tensor of that name, `:0` being understood.

        Raises:
          StatusError: INVALID_ARGUMENT without such a node, OUT_OF_RANGE without such an output of it.
        """
        node, _, index = name.partition(":")
        try:
            operation = self.graph.get_operation_by_name(node)
        except (KeyError, ValueError) as error:
            text = f"Tensor {name}, specified in either feed_devices or fetch_devices was not found in the Graph"
            raise invalid_argument(text) from error
        number = int(index or 0)
        if number >= len(operation.outputs):
            raise StatusError(
                Code.OUT_OF_RANGE,
                f"Node '{node}' (type: '{operation.type}', num of outputs: {len(operation.outputs)})"
                f" does not have output {number}",
            )
        return operation.outputs[number]

    def output(self, name: str) -> Any:
        """The handle by which the session feeds or fetches the tensor `name`; raises as `tensor`."""
        handle = self._outputs.get(name)
        if handle is None:
            handle = self._outputs[name] = self.tensor(name)._as_tf_output()
        return handle

    def close(self) -> None:
        """Frees the session; nothing may run in it."""
        self._session.close()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Servable:
    """One loaded version of a model."""

    name: str
    version: int
    path: str
    signatures: Mapping[str, meta_graph_pb2.SignatureDef]
    run: Run
    """See `Runner.run`."""
    close: Callable[[], None]
    """Frees the model; for when the last request has let go of it."""


def session_config(options: ServerOptions) -> tf.compat.v1.ConfigProto:
    """The ConfigProto that the flags ask for."""
    config = tf.compat.v1.ConfigProto()
    if not options.strict:
        graph_optimizer.quick(config)
    if options.tensorflow_session_config_file:
        textprotos.read(options.tensorflow_session_config_file, config)
    both = options.tensorflow_session_parallelism
    config.intra_op_parallelism_threads = options.tensorflow_intra_op_parallelism or both
    config.inter_op_parallelism_threads = options.tensorflow_inter_op_parallelism or both
    if options.per_process_gpu_memory_fraction:
        config.gpu_options.per_process_gpu_memory_fraction = options.per_process_gpu_memory_fraction
    return config


def _read(path: str, tags: Sequence[str]) -> tuple[Any, meta_graph_pb2.MetaGraphDef]:
    """TensorFlow's loader of a SavedModel, and its meta graph with these tags, which `load_graph` will take."""
    try:
        loader = _loader(path)
        try:
            return loader, loader.get_meta_graph_def_from_tags(tags)
        except RuntimeError as error:
            wanted = " ".join(sorted(tags))
            raise StatusError(
                Code.NOT_FOUND,
                f"Could not find meta graph def matching supplied tags: {{ {wanted} }}. To inspect available "
                "tag-sets in the SavedModel, please use the SavedModel CLI: `saved_model_cli`",
            ) from error
    except Exception as error:
        raise from_exception(error) from error


def _loader(path: str) -> Any:
    """TensorFlow's loader, with the SavedModel read and parsed.

    Raises:
      StatusError: with the binary's code for a file that is empty or cut, or no SavedModel.
    """
    binary, text = f"{path}/saved_model.pb", f"{path}/saved_model.pbtxt"
    is_binary = tf.io.gfile.exists(binary)
    if is_binary and not tf.io.gfile.stat(binary).length:
        raise StatusError(Code.OUT_OF_RANGE, "Read less bytes than requested")
    try:
        return loader_impl.SavedModelLoader(path)
    except (OSError, DecodeError, UnicodeDecodeError) as error:
        if not is_binary:
            raise StatusError(Code.DATA_LOSS, f"Can't parse {text} as text proto") from error
        raise _unreadable(path) from error


def _unreadable(path: str) -> StatusError:
    """Why the binary can't parse `saved_model.pb`: by its own reader, whose code depends on where a read ends."""
    try:
        fingerprinting.CreateFingerprintDef(path)
    except fingerprinting.FingerprintException as error:
        if found := re.search(r"^OUT_OF_RANGE: (.*)", str(error), re.MULTILINE):
            return StatusError(Code.OUT_OF_RANGE, found[1])
    return StatusError(Code.DATA_LOSS, f"Can't parse {path}/saved_model.pb as binary proto")


def _check_folder(path: str) -> None:
    exists = tf.io.gfile.exists
    if any(exists(f"{path}/{name}") for name in MODEL_FILES):
        return
    if exists(f"{path}/export.meta"):
        raise StatusError(Code.UNIMPLEMENTED, "Session Bundle is deprecated and removed.")
    raise StatusError(
        Code.NOT_FOUND,
        f"Could not find SavedModel .pb or .pbtxt at supplied export directory path: {path}. "
        "Check that the directory exists and that you have the right permissions for accessing it.",
    )
