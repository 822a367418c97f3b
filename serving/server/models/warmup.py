"""Warm-up: recorded requests that are replayed on a version before it becomes available.

They stand in `<version folder>/assets.extra/tf_serving_warmup_requests`, a TFRecord file of PredictionLog messages.
Model name and version of a record are not looked at, its signature is.

| Condition | Code | Message |
| --- | --- | --- |
| a record is not a PredictionLog | INVALID_ARGUMENT | `Failed to parse warmup record: …` |
| more than 1000 | INVALID_ARGUMENT | `Number of warmup records exceeds the maximum (1000) at <path>` |
| not a TFRecord file | DATA_LOSS | `…. Please verify your warmup data is in TFRecord format.` |
| session_run_log, predict_streamed_log | UNIMPLEMENTED | `Unsupported log_type for warmup: …` |
"""

import logging
from collections.abc import Iterator

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.python.lib.io import _pywrap_record_io
from tensorflow_serving.apis import prediction_log_pb2

from serving.server.models.servable import Servable
from serving.server.rpc import examples, predict
from serving.server.rpc.status_error import Code, StatusError, invalid_argument

FILE = "assets.extra/tf_serving_warmup_requests"
_MAX_RECORDS = 1000
log = logging.getLogger(__name__)


def warm_up(servable: Servable, iterations: int) -> int:
    """Replays the records of a servable, `iterations` times each, and returns how many there were.

    Raises:
      StatusError: a record could not be read or answered; the version must not be served.
    """
    path = f"{servable.path}/{FILE}"
    if not tf.io.gfile.exists(path):
        return 0
    count = 0
    for record in _records(path):
        count += 1
        if count > _MAX_RECORDS:
            raise invalid_argument(f"Number of warmup records exceeds the maximum ({_MAX_RECORDS}) at {path}")
        for _ in range(max(1, iterations)):
            _replay(servable, record)
    log.info("Replayed %d warm-up records of %s version %d", count, servable.name, servable.version)
    return count


def _records(path: str) -> Iterator[prediction_log_pb2.PredictionLog]:
    try:
        for data in _pywrap_record_io.RecordIterator(path, ""):
            try:
                yield prediction_log_pb2.PredictionLog.FromString(data)
            except DecodeError as error:
                raise invalid_argument(f"Failed to parse warmup record: {path}") from error
    except tf.errors.DataLossError as error:
        text = f"{error.message}. Please verify your warmup data is in TFRecord format."
        raise StatusError(Code.DATA_LOSS, text) from error


def _replay(servable: Servable, record: prediction_log_pb2.PredictionLog) -> None:
    kind = record.WhichOneof("log_type")
    if kind == "predict_log":
        predict.predict(servable, record.predict_log.request, predict.NO_CONTENTS, None)
    elif kind == "classify_log":
        examples.classify(servable, record.classify_log.request, None)
    elif kind == "regress_log":
        examples.regress(servable, record.regress_log.request, None)
    elif kind == "multi_inference_log":
        examples.multi_inference(servable, record.multi_inference_log.request, None)
    elif kind is not None:
        number = record.DESCRIPTOR.fields_by_name[kind].number
        raise StatusError(Code.UNIMPLEMENTED, f"Unsupported log_type for warmup: {number}")
