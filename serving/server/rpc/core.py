"""The server without its ports: models, and one function per RPC from request to response."""

import contextlib
import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_pb2,
    regression_pb2,
)

from serving.server.models import config, warmup
from serving.server.models.batching import BatchingOptions, BatchingSession
from serving.server.models.graph_optimizer import without_optimizer
from serving.server.models.manager import ModelManager
from serving.server.models.servable import GraphSession, Runner, Servable, session_config
from serving.server.models.strict_batching import StrictBatchingSession
from serving.server.models.version_policy import Version
from serving.server.ports.monitoring import Metrics
from serving.server.rpc import examples, message_codec, predict
from serving.server.rpc.status_error import Code, StatusError, from_exception, invalid_argument
from serving.server.rpc.tensors import Array
from serving.server.run.server_options import ServerOptions

log = logging.getLogger(__name__)


class ServerCore:
    """Holds the models and answers requests; knows nothing of gRPC or HTTP."""

    def __init__(self, options: ServerOptions) -> None:
        """Reads the config files that the options name.

        Raises:
          StatusError: they contradict each other, or a file does not parse.
        """
        options.check()
        self.options = options
        self._batching = _batching(options)
        self._session_config = session_config(options)
        self._first_config = config.check(config.read(options))
        self.metrics = Metrics(bounded=not options.strict)
        self._stopped = threading.Event()
        self.manager = ModelManager(self._load, options)
        self._reloading = threading.Lock()

    def start(self, *, at_first_failure: bool = False, give_up: Callable[[], bool] = lambda: False) -> None:
        """Loads the models; returns when each has a version that is available.

        Raises:
          StatusError: UNKNOWN if the first version of a model to finish ended in an error.
        """
        self.manager.start()
        self.manager.apply(self._first_config)
        failed = self.manager.wait_until_available(
            set(self._first_config), at_first_failure=at_first_failure, give_up=give_up
        )
        if failed:
            raise _not_available("servable(s)", failed)

    def stop(self) -> bool:
        """Unloads everything; False if some request still runs."""
        self._stopped.set()
        return self.manager.stop()

    def _load(self, name: str, version: int, path: str) -> Servable:
        strict, batching, config = self.options.strict, self._batching, self._session_config
        if self.options.enable_per_model_batching_parameters and batching is not None:
            file = f"{path}/batching_params.pbtxt"
            batching = BatchingOptions.from_file(file) if Path(file).exists() else None
        if batching is not None and not strict:
            config = without_optimizer(config)
        session = GraphSession(path, self.options.saved_model_tags.split(","), config, strict=strict)
        runner: Runner = session
        try:
            on_run = self.metrics.wrapped_run_count.inc
            if batching is not None and strict:
                runner = StrictBatchingSession(session, batching, self._stopped, on_run)
            elif batching is not None:
                runner = BatchingSession(session, batching, on_run)
            servable = Servable(
                name=name,
                version=version,
                path=path,
                signatures=session.signatures,
                run=runner.run,
                close=runner.close,
            )
            if self.options.enable_model_warmup:
                self._warm_up(servable)
        except BaseException:
            runner.close()
            raise
        return servable

    def _warm_up(self, servable: Servable) -> None:
        started, status = time.perf_counter(), Code.OK
        try:
            count = warmup.warm_up(servable, self.options.num_request_iterations_for_warmup)
        except Exception as error:
            status = from_exception(error).code
            raise
        finally:
            elapsed = (time.perf_counter() - started) * 1e6
            self.metrics.warmup_latency.labels(servable.path, status.name).observe(elapsed)
        self.metrics.warmup_records.labels(servable.path).inc(count)

    @contextlib.contextmanager
    def serving(self, spec: model_pb2.ModelSpec, api: str) -> Iterator[Servable]:
        """The servable that a request names, with its runs timed as those of `api`."""
        with self.manager.lease(spec) as servable:
            latency = self.metrics.runtime_latency.labels(servable.name, api, "TF1")

            def timed(feeds: Mapping[str, Array], fetches: Sequence[str], timeout_s: float | None) -> list[Array]:
                started = time.perf_counter()
                outputs = servable.run(feeds, fetches, timeout_s)
                latency.observe((time.perf_counter() - started) * 1e6)
                return outputs

            yield dataclasses.replace(servable, run=timed)

    # RPCs.

    def predict(self, data: bytes, timeout_s: float | None) -> bytes:
        """Answers a serialised PredictRequest with a serialised PredictResponse."""
        request, contents = message_codec.parse_predict(data)
        with self.metrics.request(request.model_spec.name, "Predict", "GRPC"):
            if not request.HasField("model_spec"):
                raise invalid_argument("Missing ModelSpec")
            with self.serving(request.model_spec, "Predict") as servable:
                return predict.predict(
                    servable,
                    request,
                    contents,
                    timeout_s,
                    check_method=self.options.enable_signature_method_name_check,
                    as_content=self.options.enable_serialization_as_tensor_content,
                )

    def classify(
        self, request: classification_pb2.ClassificationRequest, timeout_s: float | None, entrypoint: str = "GRPC"
    ) -> classification_pb2.ClassificationResponse:
        """See `examples.classify`."""
        with self._examples(request, "Classify", entrypoint) as servable:
            return examples.classify(
                servable, request, timeout_s, check_method=self.options.enable_signature_method_name_check
            )

    def regress(
        self, request: regression_pb2.RegressionRequest, timeout_s: float | None, entrypoint: str = "GRPC"
    ) -> regression_pb2.RegressionResponse:
        """See `examples.regress`."""
        with self._examples(request, "Regress", entrypoint) as servable:
            return examples.regress(
                servable, request, timeout_s, check_method=self.options.enable_signature_method_name_check
            )

    @contextlib.contextmanager
    def _examples(
        self,
        request: classification_pb2.ClassificationRequest | regression_pb2.RegressionRequest,
        api: str,
        entrypoint: str,
    ) -> Iterator[Servable]:
        name = request.model_spec.name
        shown = api if entrypoint == "GRPC" else api.lower()
        with self.metrics.request(name, shown, entrypoint):
            if not request.HasField("model_spec"):
                raise invalid_argument("Missing ModelSpec")
            with self.serving(request.model_spec, api) as servable:
                yield servable
            self.metrics.examples(name, len(examples.serialized_examples(request.input)))

    def multi_inference(
        self, request: inference_pb2.MultiInferenceRequest, timeout_s: float | None
    ) -> inference_pb2.MultiInferenceResponse:
        """The model and version are those of the first task."""
        spec = request.tasks[0].model_spec if request.tasks else model_pb2.ModelSpec()
        with self.serving(spec, "MultiInference") as servable:
            response = examples.multi_inference(
                servable, request, timeout_s, check_method=self.options.enable_signature_method_name_check
            )
        self.metrics.examples(spec.name, len(examples.serialized_examples(request.input)))
        return response

    def get_model_metadata(
        self, request: get_model_metadata_pb2.GetModelMetadataRequest
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """The signatures of a model, as they stand in its SavedModel."""
        if not request.HasField("model_spec"):
            raise invalid_argument("Missing ModelSpec")
        if not request.metadata_field:
            raise invalid_argument("GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != "signature_def":
                raise invalid_argument(f"Metadata field {field} is not supported")
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        with self.manager.lease(request.model_spec) as servable:
            signatures = get_model_metadata_pb2.SignatureDefMap()
            for name, signature in servable.signatures.items():
                signatures.signature_def[name].CopyFrom(signature)
            response.metadata["signature_def"].Pack(signatures)
            response.model_spec.CopyFrom(predict.model_spec(request.model_spec.name, servable.version))
        return response

    def get_model_status(
        self, request: get_model_status_pb2.GetModelStatusRequest
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """The state of one version, or of all that were ever seen, highest first. A label is ignored."""
        if not request.HasField("model_spec"):
            raise invalid_argument("Missing ModelSpec")
        name = request.model_spec.name
        history = self.manager.history(name)
        if request.model_spec.WhichOneof("version_choice") == "version":
            number = request.model_spec.version.value
            history = [entry for entry in history if entry[0] == number]
            if not history:
                raise StatusError(Code.NOT_FOUND, f"Could not find version {number} of model {name}")
        if not history:
            raise StatusError(Code.NOT_FOUND, f"Could not find any versions of model {name}")
        response = get_model_status_pb2.GetModelStatusResponse()
        for number, state, error in history:
            status = response.model_version_status.add(version=number, state=int(state))
            status.status.SetInParent()
            if error is not None:
                status.status.error_code = int(error.code)
                status.status.error_message = error.message
        return response

    def handle_reload_config(
        self, request: model_management_pb2.ReloadConfigRequest, give_up: Callable[[], bool] = lambda: False
    ) -> model_management_pb2.ReloadConfigResponse:
        """Replaces the whole configuration; returns once every new model has a version that is available."""
        if request.config.WhichOneof("config") != "model_config_list":
            raise invalid_argument(
                "ServerModelConfig type not supported by HandleReloadConfigRequest. "
                "Only ModelConfigList is currently supported"
            )
        before = self.metrics.counter_values()
        with contextlib.ExitStack() as reloading:
            reloading.enter_context(self._reloading)
            new = self.manager.apply(config.check(request.config, self.manager.names()))
            if not self.options.strict:  # the binary lets later reloads wait, be it for a model that never comes
                reloading.close()
            failed = self.manager.wait_until_available(new, at_first_failure=False, give_up=give_up)
        if failed:
            raise _not_available("model(s)", failed)
        response = model_management_pb2.ReloadConfigResponse()
        response.status.SetInParent()
        after = self.metrics.counter_values()
        for name in request.metric_names:
            response.metric.add(name=name, int64_value_increase=int(after.get(name, 0) - before.get(name, 0)))
        return response

    def poll_config_file(self, stopped: threading.Event) -> None:
        """Reads --model_config_file again and again until `stopped`.

        What is wrong with the file is logged, and changes nothing.
        """
        while not stopped.wait(self.options.model_config_file_poll_wait_seconds):
            try:
                with self._reloading:
                    self.manager.apply(config.check(config.read(self.options), self.manager.names()))
            except StatusError as error:
                log.error("Could not apply %s: %s", self.options.model_config_file, error)


def _not_available(kind: str, failed: Sequence[Version]) -> StatusError:
    reasons = "".join(
        f"{{{{name: {version.model} version: {version.number}}} due to error: {version.error}}}, " for version in failed
    )
    return StatusError(Code.UNKNOWN, f"{len(failed)} {kind} did not become available: {{{reasons}}}")


def _batching(options: ServerOptions) -> BatchingOptions | None:
    if not options.enable_batching:
        return None
    if options.batching_parameters_file:
        return BatchingOptions.from_file(options.batching_parameters_file)
    return BatchingOptions(thread_pool_name="model_server_batch_threads")
