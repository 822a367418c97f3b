"""A chunk predictor that asks a served model: a decoder, and memory divided among the steps."""

import dataclasses
import functools
import threading
from collections.abc import Callable

from beam_jobs.chunk_predictor import ChunkOptions, ChunkPredictor
from beam_jobs.image_reader import Read, Source
from beam_jobs.memory import Allowance, divide, give_back_large_blocks, resident
from serving.client import PredictClient
from serving.contract import ModelContract
from serving.images.encoder import Payload, make_encoder
from serving.images.limits import ImageLimits, ImageRejected
from serving.model_overrides import ModelOverrides
from serving.options import RetryPolicy
from serving.predictor import ImagePredictor
from serving.sample_images import check_model_by_samples, draw_images
from serving.tensorflow_import import import_tensorflow
from serving.wire import Wire


def served_predictor(
    client: PredictClient,
    contract: ModelContract,
    wire: Wire,
    read: Read[Source],
    *,
    limits: ImageLimits,
    options: ChunkOptions,
    memory: Allowance,
    retry: RetryPolicy,
    stop: threading.Event,
) -> ChunkPredictor[Source]:
    """A chunk predictor that asks a served model. It loads the decoder; TensorFlow only if the wire form needs it.

    Args:
      client: with the version pinned, and with `retried=transient_in_time`; the caller closes it.
      contract: of that version.
      wire: how images travel.
      read: reads a source's file.
      limits: what an image may cost.
      options: sizes and windows; `decoded_by_server` is found out here.
      memory: what the process may take.
      retry: the client's.
      stop: when set, ends waits.

    Raises:
      UsageError: there is too little memory for any image.
      ContractError: the model has no signature for the wire form.
    """
    decoded_bytes = _decoded_bytes(contract, wire)
    room = divide(memory, _taken(wire != "encoded"), readers=options.readers, decoded_bytes=decoded_bytes)
    encode = make_encoder(contract.preprocessing, wire, limits, memory=room.decoding)
    decoded_by_server = wire == "encoded" and contract.signature(wire).ok is None
    return ChunkPredictor(
        read,
        encode,
        ImagePredictor(client, contract, wire),
        dataclasses.replace(options, decoded_by_server=decoded_by_server),
        room,
        decoded_bytes=decoded_bytes,
        answer_bytes=_ANSWER_BYTES * len(contract.labels),
        retry=retry,
        known_good=_known_good(encode, contract),
        stop=stop,
    )


def check_answers(predictor: ImagePredictor, overrides: ModelOverrides, *, distributions: bool = False) -> None:
    """Replays the model's golden images against the server; a model without any is asked about drawn ones.

    Args:
      predictor: of the model.
      overrides: what the user says of a model without a contract.
      distributions: of a model without a contract, each row of scores has to sum to 1.

    Raises:
      ContractError: the server does not answer as the model did, or the answers are not probabilities.
    """
    golden = predictor.calls.contract.golden
    if golden is None or predictor.calls.wire not in golden.references:
        check_model_by_samples(predictor, overrides, distributions=distributions)
    else:
        predictor.check_golden()


def retry_by_many(policy: RetryPolicy, callers: int) -> RetryPolicy:
    """The policy for several callers at once: while a server is away each of them spends retries of its own."""
    return dataclasses.replace(policy, budget=policy.budget * callers)


def _known_good(encode: Callable[[bytes], Payload], contract: ModelContract) -> Payload | None:
    """An image that the model is sure to take; None where the run's limits are below its size."""
    try:
        return encode(draw_images(contract.preprocessing.width, contract.preprocessing.height)[0])
    except ImageRejected:
        return None


_ANSWER_BYTES = 16
"""A score in an answer, in a third of the copies that it goes through."""


def _decoded_bytes(contract: ModelContract, wire: Wire) -> int | None:
    """Bytes of an image as it is sent; None where that is its file."""
    if wire == "encoded":
        return None
    return contract.preprocessing.height * contract.preprocessing.width * 3 * (4 if wire == "float32" else 1)


@functools.cache
def _taken(with_tensorflow: bool) -> int:
    """Bytes that this process takes before its first image."""
    give_back_large_blocks()
    if with_tensorflow:
        import_tensorflow()
    return resident()
