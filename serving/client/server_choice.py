"""The server of a prediction: one that is running, or an embedded server that is started for it."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from serving.client.client_options import ConnectionOptions, Endpoint, bearer_token
from serving.errors import FlowImagesError, UsageError
from serving.model_store.choose_version import choose_on_disk, named_model
from serving.model_store.fetch import local_copy
from serving.storage.base import scheme
from serving.storage.stores import Stores

Cancellable = Callable[[Callable[[], object]], contextlib.AbstractContextManager[None]]
"""Given a function that breaks something off: a block in which the caller may call it, from any thread."""


def _never_cancelled(cancel: Callable[[], object]) -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext()


class Connection:
    """A server that is running, or an embedded one to start; checked before anything is listed or asked."""

    def __init__(self, options: ConnectionOptions) -> None:
        """Looks into the files and folders that the options name.

        Raises:
          UsageError: one of them can't be used, or options contradict each other.
        """
        if bool(options.server) == bool(options.model):
            raise UsageError("give either `server` HOST:PORT, or `model` STORE/NAME to start an embedded server")
        tls_options, model_name, model_version = options.tls_options(), options.model_name, options.model_version
        if tls_options:
            tls_options.check()
        if options.model:
            if tls_options:
                raise UsageError("`tls`… is for `server`; the embedded server of `model` is on a private socket")
            self._store, in_store = named_model(options.model)
            own_name = self._store.rstrip("/").rsplit("/", 1)[1]
            model_name, model_version = model_name or own_name, in_store if model_version is None else model_version
        elif not model_name:
            raise UsageError("`server` needs `model_name`: the model's name on the server")
        self.embedded = bool(options.model)
        self._retry = options.retry
        self._endpoint = Endpoint(
            address=options.server or "unix:not-started",
            model_name=model_name or "",
            version=model_version,
            tls=tls_options,
        )
        if options.server:
            bearer_token(self._endpoint)  # a bad token is refused before anything is listed or asked

    @property
    def asked(self) -> tuple[str, int | None]:
        """Name and version of the model as the options have them; None for the latest."""
        return self._endpoint.model_name, self._endpoint.version

    def newest_version(self) -> int | None:
        """The highest version in the model folder that the options name; None for that of a server, or in a bucket."""
        return choose_on_disk(self._store, None) if self.embedded and not scheme(self._store) else None

    @contextlib.contextmanager
    def connect(
        self,
        version: int | None = None,
        *,
        meanwhile: Callable[[], object] = lambda: None,
        stores: Stores | None = None,
        cancellable: Cancellable = _never_cancelled,
    ) -> Iterator[Endpoint]:
        """The endpoint; with `model`, an embedded server of one version runs as long as the block.

        Args:
          version: the one to serve where the options name none; None for the highest.
          meanwhile: something slow that the caller needs later, such as an import, done while the server starts.
          stores: for a model in a bucket, which is copied to this machine first; None for what the environment says.
          cancellable: lets the caller break off the server's start.

        Raises:
          UsageError: there is no such version, or the bucket can't be read.
        """
        if not self.embedded:
            yield self._endpoint
            return
        from serving.server import ServerProcess
        from serving.server.rpc.status_error import Code, StatusError

        version = version if self._endpoint.version is None else self._endpoint.version
        with contextlib.ExitStack() as stack:
            store: str | Path = self._store
            if scheme(self._store):
                store = stack.enter_context(local_copy(self._store, version, stores or Stores(policy=self._retry)))
            version = choose_on_disk(store, version)
            start_s = max(_START_S, self._retry.patience_s)
            server = ServerProcess(
                store,
                model_name=self._endpoint.model_name,
                version=version,
                extra_flags=_FLAGS,
                start_timeout_s=start_s,
            )
            stack.callback(server.stop)
            with cancellable(server.kill), ThreadPoolExecutor(1) as starting:
                started = starting.submit(server.start)
                meanwhile()
                try:
                    started.result()
                except StatusError as error:
                    more = "; `patience_s` gives it more" if error.code is Code.DEADLINE_EXCEEDED else ""
                    raise FlowImagesError(f"`model` {self._store}: {error}{more}") from error
            yield dataclasses.replace(self._endpoint, address=server.address, version=version)


_FLAGS = ("--enable_model_warmup=false",)
"""Only one of the signatures will be asked, so warming up all of them would hold up the first answer."""
_START_S = 300.0
"""Least seconds that an embedded server gets to load its model; `patience_s` may give it more."""
