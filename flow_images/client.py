"""Asks a served model about images; each call blocks until it has its answer."""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Self, TypeVar, overload

from flow_images.base_client import BaseClient
from flow_images.classification import Classification
from flow_images.image_classifier import ImageClassifier
from flow_images.image_inputs import Image, is_one_image, named_images
from serving.client.channels import BlockingChannel
from serving.client.model_calls import Array, ModelCalls, VersionStatus
from serving.contract import STANDARD_SIGNATURES, ModelContract
from serving.network.protos.tensor_codec import Value
from serving.network.sans_io import Operation, drive

T = TypeVar("T")


class Client(BaseClient):
    """Asks one model on one server about images.

    Safe to use from several threads. A context manager; `close` ends its channel. Make one and keep it: it holds the
    connection and the model's contract.

    Raises, from each method:
      ServerUnavailable, ServerBusy, DeadlineExceeded: the server can't be reached or asked for `patience_s`.
      ModelNotFound, AccessDenied, WrongAddress: at once, as waiting would not help.
      ContractError: the model can't be asked about images with these options, or does not keep its contract.
      UsageError: an argument that can't be used.
      StorageUnavailable: the bucket or web server of a path does not answer for `patience_s`.
      ClientClosed: after `close`.
    """

    def _open(self) -> None:
        self._channel = BlockingChannel(self._route, self._policy.deadline_s, self._stop)
        calls = ModelCalls(self._endpoint, self._policy, self._channel.is_connected, self._route.proxy, stop=self._stop)
        self._classifier = ImageClassifier(calls, self._read, self._options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the channel; calls in flight raise `ClientClosed`."""
        self._stop.set()
        self._channel.close()

    @overload
    def classify(self, images: Image) -> Classification: ...  # type: ignore[overload-overlap]
    @overload
    def classify(self, images: Iterable[Image]) -> list[Classification]: ...
    def classify(self, images: Image | Iterable[Image]) -> Classification | list[Classification]:
        """What is in an image, or in each of several.

        Args:
          images: one image, or any iterable of them. An image is a path (`str` or `os.PathLike`; also gs://, s3://,
            az:// and https://), the bytes of an image file, or decoded pixels: an array [height, width, 3], RGB, uint8
            in 0..255 or floats in 0..1, which are rounded to 1/255. An array [n, height, width, 3] is n images.

        Returns:
          The result of the one image, or a list of results in the order of the images. A broken or missing image is a
          result with its reason, and no exception.
        """
        if is_one_image(images):
            [result] = self.classify_each([images])  # type: ignore[list-item]
            return result
        return list(self.classify_each(images))  # type: ignore[arg-type]

    def classify_each(self, images: Iterable[Image]) -> Iterator[Classification]:
        """Does what `classify` does, for any number of images: one batch of them is held at a time."""
        named = named_images(images)
        while batch := list(itertools.islice(named, self._options.batch_size)):
            yield from self._run(self._classifier.classify(batch))

    def contract(self) -> ModelContract:
        """The model's contract: labels, image size, preprocessing; for a model without one, what `overrides` say."""
        return self._run(self._classifier.model()).contract

    def check(self) -> float:
        """Replays the model's golden images: does the server answer as the model did when it was exported?

        Call it once after a deployment or when a service starts; it costs as much as classifying these images.

        Returns:
          Mean over the images of the largest change of a probability, 0..1; 0 for a model without golden images.

        Raises:
          ContractError: it is over the tolerance of the model's contract.
        """
        return self._run(self._classifier.check())

    def predict(
        self,
        inputs: Mapping[str, Value],
        *,
        signature: str = STANDARD_SIGNATURES["float32"].name,
        outputs: Sequence[str] = (),
    ) -> dict[str, Array]:
        """Runs a signature of the model once, with arrays as they are.

        Args:
          inputs: arrays, or lists of byte strings for string tensors, by the names of the signature's inputs.
          signature: its name.
          outputs: names of the outputs wanted; empty for all.

        Returns:
          Arrays by output name.

        Raises:
          InvalidRequest: the server refuses it.
        """
        return self._run(self._classifier.calls.predict(inputs, signature=signature, outputs=outputs))

    def versions(self) -> list[VersionStatus]:
        """All versions that the server knows of the model, highest first, with their states."""
        return self._run(self._classifier.calls.versions())

    def _run(self, operation: Operation[T]) -> T:
        return drive(operation, self._channel.perform)
