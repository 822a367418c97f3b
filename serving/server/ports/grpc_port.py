"""The gRPC ports: PredictionService, ModelService, and health and reflection beside them."""

import concurrent.futures
import logging
import os
import threading
from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_service_pb2,
    prediction_service_pb2,
    regression_pb2,
)

from serving.process.forks import threads_end, threads_start
from serving.server.models import textprotos
from serving.server.ports import profiler
from serving.server.ports.listen_addresses import bracketed, check_socket, reachable
from serving.server.rpc.core import ServerCore
from serving.server.rpc.status_error import Code, StatusError, from_exception, truncated
from serving.server.run.server_options import ANY_PORT, ServerOptions

log = logging.getLogger(__name__)
Handler = Callable[[bytes, grpc.ServicerContext], bytes]

# Their modules must be loaded for reflection to describe them.
_PREDICTION_SERVICE = str(prediction_service_pb2.DESCRIPTOR.services_by_name["PredictionService"].full_name)
_MODEL_SERVICE = str(model_service_pb2.DESCRIPTOR.services_by_name["ModelService"].full_name)
HEALTH_NAMES = ("", "ModelService", "PredictionService")
"""What TensorFlow Serving's health service knows: the short names."""
_RECEIVE_LIMIT = 2**31 - 1
_MAX_WORKERS = 1024
"""Threads are made as requests need them; most of them only wait for TensorFlow, or for a slow sender."""
_MAX_PENDING = 100_000
_CLEAN_UP_S = 2.0
_CODES = {code.value[0]: code for code in grpc.StatusCode}


class _Health(health.HealthServicer):
    """grpc.health.v1.Health, with the binary's words for a service that it doesn't know."""

    def Check(self, request: Any, context: grpc.ServicerContext) -> Any:
        response = super().Check(request, context)
        if context.code() == grpc.StatusCode.NOT_FOUND:
            context.set_details("service name unknown")
        return response


class GrpcServer:
    """The gRPC server of a ServerCore. The ports are bound by the constructor and served from `start` on."""

    def __init__(self, core: ServerCore) -> None:
        """Binds the ports.

        Raises:
          StatusError: a port can't be bound, or the TLS file does not parse.
        """
        options = core.options
        self._pool = concurrent.futures.ThreadPoolExecutor(_MAX_WORKERS, thread_name_prefix="grpc")
        self._server = grpc.server(self._pool, options=_channel_arguments(options))
        self._register(_limited(_prediction_handlers(core), options), _PREDICTION_SERVICE)
        self._register(_limited(_model_handlers(core), options), _MODEL_SERVICE)
        if options.enable_profiler:
            self._register({"Profile": profiler.profile}, profiler.SERVICE)
        self.health = _Health()
        names = [_PREDICTION_SERVICE, _MODEL_SERVICE]
        if options.enable_grpc_healthcheck_service:
            health_pb2_grpc.add_HealthServicer_to_server(self.health, self._server)
            names.append(health.SERVICE_NAME)
        reflection.enable_server_reflection([*names, reflection.SERVICE_NAME], self._server)
        self.address, self.port = self._bind(options)

    def start(self) -> None:
        """Begins to serve; the health service says SERVING."""
        for name in HEALTH_NAMES:
            self.health.set(name, health_pb2.HealthCheckResponse.SERVING)
        threads_start()
        self._server.start()

    def stop(self, grace_s: float) -> threading.Event:
        """NOT_SERVING, no new requests, and up to `grace_s` seconds for those in flight; set when all is over."""
        self.health.enter_graceful_shutdown()
        over: threading.Event = self._server.stop(grace_s)
        return over

    def close(self) -> None:
        """Lets the idle threads go, which gRPC leaves to the owner of the pool, and a moment to those that clean up."""
        threads_end()
        closing = threading.Thread(target=self._pool.shutdown, daemon=True)
        closing.start()
        closing.join(_CLEAN_UP_S)

    def _register(self, handlers: dict[str, Handler], service: str) -> None:
        methods = {name: grpc.unary_unary_rpc_method_handler(_answering(handler)) for name, handler in handlers.items()}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, methods),))

    def _bind(self, options: ServerOptions) -> tuple[str, int]:
        credentials = _credentials(options)

        def bind(address: str) -> int:
            try:
                if credentials is None:
                    return int(self._server.add_insecure_port(address))
                return int(self._server.add_secure_port(address, credentials))
            except RuntimeError as error:
                raise StatusError(Code.UNAVAILABLE, f"Can't listen on {address}: {error}") from error

        address, port = "", 0
        if options.grpc_socket_path:
            check_socket(options.grpc_socket_path)
            address = f"unix:{options.grpc_socket_path}"
            bind(address)
        if options.port != 0:
            port = bind(f"{bracketed(options.host)}:{0 if options.port == ANY_PORT else options.port}")
            address = f"{reachable(options.host)}:{port}"
        return address, port


def _prediction_handlers(core: ServerCore) -> dict[str, Handler]:
    return {
        "Predict": lambda data, context: core.predict(data, context.time_remaining()),
        "Classify": _parsed(
            classification_pb2.ClassificationRequest,
            lambda request, context: core.classify(request, context.time_remaining()),
        ),
        "Regress": _parsed(
            regression_pb2.RegressionRequest,
            lambda request, context: core.regress(request, context.time_remaining()),
        ),
        "MultiInference": _parsed(
            inference_pb2.MultiInferenceRequest,
            lambda request, context: core.multi_inference(request, context.time_remaining()),
        ),
        "GetModelMetadata": _parsed(
            get_model_metadata_pb2.GetModelMetadataRequest, lambda request, _: core.get_model_metadata(request)
        ),
    }


def _model_handlers(core: ServerCore) -> dict[str, Handler]:
    return {
        "GetModelStatus": _parsed(
            get_model_status_pb2.GetModelStatusRequest, lambda request, _: core.get_model_status(request)
        ),
        "HandleReloadConfigRequest": _parsed(
            model_management_pb2.ReloadConfigRequest,
            lambda request, context: core.handle_reload_config(request, lambda: not context.is_active()),
        ),
    }


def _parsed(kind: type[Message], function: Callable[[Any, grpc.ServicerContext], Message]) -> Handler:
    def handler(data: bytes, context: grpc.ServicerContext) -> bytes:
        try:
            request = kind.FromString(data)
        except DecodeError as error:
            raise StatusError(Code.INTERNAL, "Exception deserializing request!") from error
        return function(request, context).SerializeToString()

    return handler


def _answering(handler: Handler) -> Handler:
    """The handler, with its errors as gRPC statuses."""

    def answer(data: bytes, context: grpc.ServicerContext) -> bytes:
        try:
            return handler(data, context)
        except Exception as error:
            if not isinstance(error, StatusError):
                log.exception("Unexpected error")
            refusal = from_exception(error)
        context.set_code(_CODES[refusal.code])
        context.set_details(truncated(refusal.message))
        return b""

    return answer


def _limited(handlers: dict[str, Handler], options: ServerOptions) -> dict[str, Handler]:
    """The handlers, which refuse a request too many at once, with --grpc_max_threads or --strict."""
    limit_of_threads = options.grpc_max_threads or (4 * (os.cpu_count() or 1) if options.strict else 0)
    if limit_of_threads <= 0:
        return handlers
    threads = threading.BoundedSemaphore(limit_of_threads)

    def limit(handler: Handler) -> Handler:
        def handle(data: bytes, context: grpc.ServicerContext) -> bytes:
            if not threads.acquire(blocking=False):
                raise StatusError(Code.RESOURCE_EXHAUSTED, "Server Threadpool Exhausted")
            try:
                return handler(data, context)
            finally:
                threads.release()

        return handle

    return {name: limit(handler) for name, handler in handlers.items()}


def _channel_arguments(options: ServerOptions) -> list[tuple[str, int | str]]:
    arguments: dict[str, int | str] = {
        "grpc.max_receive_message_length": _RECEIVE_LIMIT,
        "grpc.max_send_message_length": -1,
        "grpc.so_reuseport": int(options.strict),  # else a port in use is an error, not a second server behind it
        # Calls that wait to be taken; gRPC's own limit of 1000 ends them at random, as CANCELLED.
        "grpc.server.max_pending_requests": _MAX_PENDING,
        "grpc.server.max_pending_requests_hard_limit": _MAX_PENDING,
    }
    for argument in filter(None, options.grpc_channel_arguments.split(",")):
        key, _, value = argument.partition("=")
        try:
            arguments[key] = int(value)
        except ValueError:
            arguments[key] = value
    return list(arguments.items())


def _credentials(options: ServerOptions) -> grpc.ServerCredentials | None:
    if not options.ssl_config_file:
        return None
    ssl = textprotos.read(options.ssl_config_file, textprotos.SSLConfig())
    return grpc.ssl_server_credentials(
        [(ssl.server_key.encode(), ssl.server_cert.encode())],
        root_certificates=ssl.custom_ca.encode() or None,
        require_client_auth=ssl.client_verify,
    )
