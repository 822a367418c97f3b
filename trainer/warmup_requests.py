"""Warm-up requests: TensorFlow Serving, and the embedded server, run them before a version becomes available."""

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from serving.contract import CONTRACT_INPUT, CONTRACT_KEY, CONTRACT_SIGNATURE, STANDARD_SIGNATURES, Preprocessing
from serving.images.wire import Wire

WARMUP_FILE = "tf_serving_warmup_requests"


def write_warmup(extra: Path, preprocessing: Preprocessing, image: bytes) -> None:
    """Writes the TFRecord of PredictionLog that a server looks for.

    One request of one row for each signature: one that is over a server's max_batch_size would fail the load.

    Args:
      extra: the version's `assets.extra` folder.
      preprocessing: the model's.
      image: a file for the signature that decodes.
    """
    shape = (1, preprocessing.height, preprocessing.width, 3)
    values: dict[Wire, Any] = {
        "float32": np.zeros(shape, np.float32),
        "uint8": np.zeros(shape, np.uint8),
        "encoded": [image],
    }
    inputs = [(reference.name, reference.input, values[wire]) for wire, reference in STANDARD_SIGNATURES.items()]
    inputs.append((CONTRACT_SIGNATURE, CONTRACT_INPUT, [CONTRACT_KEY.encode()]))
    with tf.io.TFRecordWriter(str(extra / WARMUP_FILE)) as writer:
        for signature, name, value in inputs:
            request = predict_pb2.PredictRequest()
            request.model_spec.signature_name = signature
            request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
            log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
            writer.write(log.SerializeToString())
