"""Asks a served model about images from an event loop, such as a web service's."""

import itertools
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Self, TypeVar, overload

from flow_images.base_client import BaseClient
from flow_images.classification import Classification
from flow_images.image_classifier import ImageClassifier
from flow_images.image_inputs import Image, is_one_image, named_images
from serving.client.channels import AsyncChannel
from serving.client.model_calls import Array, ModelCalls, VersionStatus
from serving.contract import STANDARD_SIGNATURES, ModelContract
from serving.network.protos.tensor_codec import Value
from serving.network.sans_io import Operation, drive_async

T = TypeVar("T")


class AsyncClient(BaseClient):
    """`Client` for an event loop: the same arguments, results and errors, with `await`.

    Files are read and decoded in threads. Any number of calls may be under way at once; a server with batching puts
    their images together. Cancelling a call ends its request. It may be made before the loop runs, and belongs to the
    loop of its first call.
    """

    def _open(self) -> None:
        self._channel = AsyncChannel(self._route, self._policy.deadline_s)
        calls = ModelCalls(self._endpoint, self._policy, self._channel.is_connected, self._route.proxy, stop=self._stop)
        self._classifier = ImageClassifier(calls, self._read, self._options)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends the channel; calls in flight raise `ClientClosed`."""
        self._stop.set()
        await self._channel.close()

    @overload
    async def classify(self, images: Image) -> Classification: ...  # type: ignore[overload-overlap]
    @overload
    async def classify(self, images: Iterable[Image]) -> list[Classification]: ...
    async def classify(self, images: Image | Iterable[Image]) -> Classification | list[Classification]:
        """See `Client.classify`."""
        if is_one_image(images):
            [result] = [one async for one in self.classify_each([images])]  # type: ignore[list-item]
            return result
        return [one async for one in self.classify_each(images)]  # type: ignore[arg-type]

    async def classify_each(self, images: Iterable[Image]) -> AsyncIterator[Classification]:
        """See `Client.classify_each`."""
        named = named_images(images)
        while batch := list(itertools.islice(named, self._options.batch_size)):
            for one in await self._run(self._classifier.classify(batch)):
                yield one

    async def contract(self) -> ModelContract:
        """See `Client.contract`."""
        return (await self._run(self._classifier.model())).contract

    async def check(self) -> float:
        """See `Client.check`."""
        return await self._run(self._classifier.check())

    async def predict(
        self,
        inputs: Mapping[str, Value],
        *,
        signature: str = STANDARD_SIGNATURES["float32"].name,
        outputs: Sequence[str] = (),
    ) -> dict[str, Array]:
        """See `Client.predict`."""
        return await self._run(self._classifier.calls.predict(inputs, signature=signature, outputs=outputs))

    async def versions(self) -> list[VersionStatus]:
        """See `Client.versions`."""
        return await self._run(self._classifier.calls.versions())

    async def _run(self, operation: Operation[T]) -> T:
        return await drive_async(operation, self._channel.perform)
