"""The constructor that `Client` and `AsyncClient` have in common."""

import functools
import threading
from collections.abc import Callable, Sequence
from typing import Any, Self

from flow_images.image_classifier import CLIENT_WIRES, ClassifierOptions
from serving.client.channels import Route
from serving.client.client_options import TlsOptions, make_endpoint
from serving.client.model_overrides import ModelOverrides
from serving.images.limits import ImageLimits
from serving.images.wire import Wire
from serving.network.retry import RetryPolicy
from serving.storage.storage_options import StorageOptions
from serving.storage.stores import Stores

_CALLERS = 200
"""Calls that may be under way at once without using up each other's retries."""


class BaseClient:
    """Checks and keeps the arguments of a client. Its subclasses open the channel.

    Pickled for another process, or copied, it is a new client of the same arguments, with a channel of its own.
    """

    _arguments: tuple[tuple[Any, ...], dict[str, Any]]

    def __new__(cls, *positional: Any, **named: Any) -> Self:
        """Keeps the arguments, whatever those of a subclass are."""
        client = super().__new__(cls)
        client._arguments = positional, named
        return client

    def __reduce__(self) -> tuple[Callable[[], Self], tuple[()]]:
        positional, named = self._arguments
        return functools.partial(type(self), *positional, **named), ()

    def __init__(
        self,
        server: str,
        model_name: str,
        *,
        version: int | None = None,
        tls: bool | TlsOptions | None = None,
        token: str | None = None,
        deadline_s: float = 60.0,
        patience_s: float = 30.0,
        wire: Wire | Sequence[Wire] | None = None,
        top_k: int = 5,
        batch_size: int = 32,
        overrides: ModelOverrides | None = None,
        limits: ImageLimits | None = None,
        storage: StorageOptions | None = None,
    ) -> None:
        """Opens no connection yet; the first call does.

        Args:
          server: HOST:PORT of TensorFlow Serving's gRPC API, usually port 8500; several IP:PORT with commas,
            dns:///HOST:PORT, or unix:/PATH.
          model_name: the model's name on the server.
          version: the version to ask. None for the latest at the first call; when that leaves the server, for the
            latest then. Labels and scores are always of one version.
          tls: True for TLS with the system's certificates, or `TlsOptions` for others and for mTLS.
          token: bearer token, sent over TLS only; None for that of the variable FLOW_IMAGES_TOKEN, if it is set.
          deadline_s: seconds that one try of a request may take.
          patience_s: seconds to go on trying while the server is away, overloaded or slow.
          wire: how images are sent, or several ways in the order of preference. None for `encoded` (whole files, no
            TensorFlow needed here), then `uint8`, `float32`, as the model has it.
          top_k: classes of each result.
          batch_size: most images a request.
          overrides: what the server can't tell of a model without a contract: labels, image size, value range.
          limits: largest file and most pixels of an image.
          storage: how buckets are reached; None for what the environment says.

        Raises:
          UsageError: a value that can't be used.
        """
        self._endpoint = make_endpoint(server, model_name, version, tls)
        budget = _CALLERS * RetryPolicy().budget
        self._policy = RetryPolicy(deadline_s=deadline_s, patience_s=patience_s, budget=budget)
        self._options = ClassifierOptions(
            wires=CLIENT_WIRES if wire is None else [wire] if isinstance(wire, str) else wire,
            top_k=top_k,
            batch_size=batch_size,
            overrides=ModelOverrides() if overrides is None else overrides,
            limits=ImageLimits() if limits is None else limits,
            storage=StorageOptions() if storage is None else storage,
        )
        self._stop = threading.Event()
        self._stores = Stores(self._options.storage, self._policy, self._stop)
        self._route = Route(self._endpoint, token)
        self._open()

    def _open(self) -> None:
        """Makes the channel and the classifier that uses it."""
        raise NotImplementedError

    def __repr__(self) -> str:
        version = "" if self._endpoint.version is None else f", version={self._endpoint.version}"
        return f"{type(self).__name__}({self._endpoint.address!r}, {self._endpoint.model_name!r}{version})"

    def _read(self, path: str, limit: int) -> bytes:
        """A file on a disk, in a bucket or on the web; raises as `serving.storage.base.Storage.read`."""
        return self._stores(path).read(path, limit)
