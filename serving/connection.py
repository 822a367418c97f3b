"""Where a prediction's server comes from: an endpoint that is there, or an embedded server that is started for it."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from serving.errors import FlowImagesError, UsageError
from serving.options import Endpoint, RetryPolicy, TlsOptions, bearer_token

MAX_VERSION = 2**63 - 1
"""A version is a signed 64-bit number for TensorFlow Serving."""

Fetch = Callable[[str, int | None], contextlib.AbstractContextManager[Path]]
"""From a model folder in a bucket and a version (None: the highest) to a copy on a disk."""


class Connection:
    """The server flags, checked: an endpoint that is there, or an embedded server to start."""

    def __init__(
        self, *, server: str | None, store: str | None, model_name: str | None, model_version: int | None,
        tls: bool, tls_ca: str | None, tls_cert: str | None, tls_key: str | None, tls_server_name: str | None,
        deadline_s: float, patience_s: float,
    ) -> None:  # fmt: skip
        """Raises UsageError where the flags contradict each other."""
        if bool(server) == bool(store):
            raise UsageError("give either --server HOST:PORT, or --model STORE/NAME to start an embedded server")
        files = (tls_ca, tls_cert, tls_key, tls_server_name)
        tls_options = (
            TlsOptions(ca=tls_ca, cert=tls_cert, key=tls_key, server_name=tls_server_name)
            if tls or any(files)
            else None
        )
        if tls_options:
            tls_options.check()
        if store:
            if tls_options:
                raise UsageError("--tls… is for --server; the embedded server of --model is on a private socket")
            self._store, in_store = _in_bucket(store) if "://" in store else _model_folder(store)
            own_name = self._store.rstrip("/").rsplit("/", 1)[1]
            model_name, model_version = model_name or own_name, in_store if model_version is None else model_version
        elif not model_name:
            raise UsageError("--server needs --model-name: the model's name on the server")
        self.embedded = bool(store)
        self.retry = RetryPolicy(deadline_s=deadline_s, patience_s=patience_s)
        self._endpoint = Endpoint(
            address=server or "unix:not-started", model_name=model_name or "", version=model_version, tls=tls_options
        )
        if server:
            bearer_token(self._endpoint)  # is refused before anything is listed or asked

    @property
    def asked(self) -> tuple[str, int | None]:
        """Name and version of the model as the flags have them; None for the latest."""
        return self._endpoint.model_name, self._endpoint.version

    @contextlib.contextmanager
    def connect(
        self, version: int | None = None, *, meanwhile: Callable[[], object] = lambda: None, fetch: Fetch | None = None
    ) -> Iterator[Endpoint]:
        """The endpoint; with --model, an embedded server of one version runs as long as the block.

        Args:
          version: the one to serve where the flags name none; None for the highest.
          meanwhile: something slow that the caller needs later, such as an import, done while the server starts.
          fetch: for a model in a bucket: gives a local copy of (folder, version).
        Raises:
          UsageError: there is no such version; or the model is in a bucket, and the caller can't fetch it.
        """
        if not self.embedded:
            yield self._endpoint
            return
        from serving.server import ServerProcess
        from serving.server.rpc.status import Code
        from serving.server.rpc.status import ServingError as ServerError

        version = version if self._endpoint.version is None else self._endpoint.version
        with contextlib.ExitStack() as stack:
            store: str | Path = self._store
            if "://" in self._store:
                if fetch is None:
                    raise UsageError(
                        f"--model {store}: copy the model from the bucket to a disk first, or give --server"
                    )
                store = stack.enter_context(fetch(self._store, version))
            version = _choose(store, version)
            start_s = max(_START_S, self.retry.patience_s)
            server = ServerProcess(
                store, model_name=self._endpoint.model_name, version=version, start_timeout_s=start_s
            )
            stack.callback(server.stop)
            with ThreadPoolExecutor(1) as starting:
                started = starting.submit(server.start)
                meanwhile()
                try:
                    started.result()
                except ServerError as error:
                    more = "; --patience gives it more" if error.code is Code.DEADLINE_EXCEEDED else ""
                    raise FlowImagesError(f"--model {self._store}: {error}{more}") from error
            yield dataclasses.replace(self._endpoint, address=server.address, version=version)


_START_S = 300.0
"""Least seconds that an embedded server gets to load its model; --patience may give it more."""


def _in_bucket(store: str) -> tuple[str, int | None]:
    folder, _, last = store.rstrip("/").rpartition("/")
    version = _as_version(last)
    return (store.rstrip("/"), None) if version is None else (folder, version)


def _as_version(name: str) -> int | None:
    """The version that a folder's name stands for, if it does."""
    number = int(name) if name.isascii() and name.isdigit() and len(name) < 20 else None
    return number if number is not None and number <= MAX_VERSION else None


def _model_folder(store: str) -> tuple[str, int | None]:
    """The folder with the versions, and the version if a version's folder itself was named."""
    folder = Path(store)
    if folder.is_file():
        raise UsageError(f"--model {store}: a file; give a model folder, STORE/NAME, as `flow-images train` makes it")
    if not folder.is_dir():
        raise UsageError(f"--model {store}: no such folder; `flow-images train` makes one")
    folder = folder.resolve()
    if (folder / "saved_model.pb").exists():
        version = _as_version(folder.name)
        if version is None:
            raise UsageError(
                f"--model {store}: a SavedModel must lie in a folder that is named by its version: move it to "
                f"{folder / '1'}, say"
            )
        return str(folder.parent), version
    _choose(folder, None)
    return str(folder), None


def _choose(store: str | Path, version: int | None) -> int:
    """The version, or the highest, of those in a model's folder."""
    from serving.server.models.base_path import models_in, whole_versions

    try:
        there = sorted(whole_versions(store))
    except OSError as error:
        raise UsageError(f"--model {store}: {error.strerror}") from error
    if not there:
        raise UsageError(
            f"--model {store}: no version folder (an integer, with a saved_model.pb) in it; "
            + (models_in(store) or "`flow-images train` makes one")
        )
    if version is not None and version not in there:
        raise UsageError(
            f"--model {store}: no version {version} in it, but {', '.join(map(str, there))}. A run that was begun with "
            "one needs it until its end, unless it is begun again with --fresh"
        )
    return there[-1] if version is None else version
