"""The manager: polls the base paths, loads and unloads versions, and hands out leases on what is loaded.

One thread does all polling and loading, so loads are serial, as with the binary's default of no load threads. A failed
load is tried again after a pause, without holding up the others.
"""

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager

import tensorflow as tf
from tensorflow_serving.apis import model_pb2

from serving.server.models.config import ModelConfig, versions_on_disk
from serving.server.models.servable import Servable
from serving.server.models.version_policy import LeasedServable, State, Version, next_action
from serving.server.rpc.status_error import Code, StatusError, from_exception, invalid_argument
from serving.server.run.server_options import ServerOptions

log = logging.getLogger(__name__)
Load = Callable[[str, int, str], Servable]


class ModelManager:
    """Which versions of which models are loaded."""

    def __init__(self, load: Load, options: ServerOptions) -> None:
        self._load = load
        self._options = options
        self._changed = threading.Condition()
        self._models: dict[str, ModelConfig] = {}
        self._labels: dict[str, dict[str, int]] = {}
        self._history: dict[str, dict[int, Version]] = {}
        self._aspired: dict[str, frozenset[int]] = {}
        self._poll_due = 0.0
        self._poll_error: StatusError | None = None
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name="model-manager", daemon=True)

    def start(self) -> None:
        """Starts polling and loading."""
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> bool:
        """Stops polling, retires every servable and waits for a while until they are closed; False if one isn't."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        retired: list[LeasedServable] = []
        with self._changed:
            for versions in self._history.values():
                for version in versions.values():
                    if version.leased is not None:
                        retired.append(version.leased)
                        version.state, version.leased = State.END, None
        for leased in retired:
            leased.release()
        return all(leased.wait_closed(timeout_s) for leased in retired)

    # Configuration.

    def apply(self, models: Mapping[str, ModelConfig]) -> set[str]:
        """Replaces the configuration, labels first; the folders are looked at soon after.

        Returns:
          The names of the models that are new.

        Raises:
          StatusError: FAILED_PRECONDITION for a label on a version that is not available.
        """
        with self._changed:
            for model in models.values():
                self._check_labels(model)
            new = set(models) - set(self._models)
            self._labels = {model.name: dict(model.labels) for model in models.values()}
            self._models = dict(models)
            for name in set(self._aspired) - set(models):
                self._aspire(name, {})
            for name in new:  # it starts anew: what once failed under this name doesn't count
                for version in self._history.get(name, {}).values():
                    version.error = None
            self._poll_due = 0.0
            self._changed.notify_all()
        return new

    def names(self) -> set[str]:
        """The models that are configured."""
        with self._changed:
            return set(self._models)

    def _check_labels(self, model: ModelConfig) -> None:
        before = self._labels.get(model.name, {})
        for label, number in model.labels.items():
            if self._available(model.name, number) is not None:
                continue
            unchanged_or_new = before.get(label, number) == number
            if not (self._options.allow_version_labels_for_unavailable_models and unchanged_or_new):
                raise StatusError(
                    Code.FAILED_PRECONDITION,
                    f"Request to assign label to version {number} of model {model.name}, "
                    "which is not currently available for inference",
                )

    def wait_until_available(
        self, names: Collection[str], *, at_first_failure: bool, give_up: Callable[[], bool] = lambda: False
    ) -> list[Version]:
        """Waits until, for each model, the first version has finished: loaded, or failed.

        Args:
          names: the models to wait for.
          at_first_failure: whether one failed attempt counts as failed, without waiting for the retries, and a base
            path that can't be looked at is an error.
          give_up: asked now and then; True ends the wait.

        Returns:
          The versions that failed; empty if all models are available.

        Raises:
          StatusError: why a base path can't be looked at.
        """
        decided: dict[str, Version] = {}
        with self._changed:
            while not self._stopping and not give_up():
                if at_first_failure and self._poll_error is not None:
                    raise self._poll_error
                for name in set(names) - set(decided):
                    for version in sorted(self._history.get(name, {}).values(), key=lambda v: -v.number):
                        over = version.state is State.AVAILABLE or version.failed_for_good
                        if over or (at_first_failure and version.error is not None):
                            decided.setdefault(name, version)
                if set(decided) >= set(names):
                    break
                self._changed.wait(0.2)
        return [version for version in decided.values() if version.state is not State.AVAILABLE]

    # What requests ask.

    @contextmanager
    def lease(self, spec: model_pb2.ModelSpec) -> Iterator[Servable]:
        """The servable that a request's model_spec names; it stays loaded within the block.

        | Condition | Code | Message |
        | --- | --- | --- |
        | empty name | INVALID_ARGUMENT | `ModelSpec has no name specified.` |
        | unknown or empty label | INVALID_ARGUMENT | `Unrecognized servable version label: <label>` |
        | unknown model | NOT_FOUND | `Servable not found for request: Latest(<name>)` |
        | unknown or unloaded version | NOT_FOUND | `Servable not found for request: Specific(<name>, <version>)` |
        """
        if not spec.name:
            raise invalid_argument("ModelSpec has no name specified.")
        with self._changed:
            number = self._number(spec)
            version = self._available(spec.name, number)
            if version is None or version.leased is None:
                wanted = f"Latest({spec.name})" if number is None else f"Specific({spec.name}, {number})"
                raise StatusError(Code.NOT_FOUND, f"Servable not found for request: {wanted}")
            leased = version.leased
            leased.acquire()
        try:
            yield leased.servable
        finally:
            leased.release()

    def _number(self, spec: model_pb2.ModelSpec) -> int | None:
        choice = spec.WhichOneof("version_choice")
        if choice == "version":
            return int(spec.version.value)
        if choice == "version_label":
            labels = self._labels.get(spec.name, {})
            if spec.version_label not in labels:
                raise invalid_argument(f"Unrecognized servable version label: {spec.version_label}")
            return labels[spec.version_label]
        return None

    def _available(self, name: str, number: int | None) -> Version | None:
        versions = [v for v in self._history.get(name, {}).values() if v.state is State.AVAILABLE]
        if number is not None:
            versions = [version for version in versions if version.number == number]
        return max(versions, key=lambda version: version.number, default=None)

    def history(self, name: str) -> list[tuple[int, State, StatusError | None]]:
        """Every version ever seen of a model, highest first: number, state, error."""
        with self._changed:
            versions = sorted(self._history.get(name, {}).values(), key=lambda v: -v.number)
            return [(v.number, v.state, v.error if v.state is State.END else None) for v in versions]

    def available(self) -> list[Servable]:
        """Every servable that is available now, by name and version; to be described, not run."""
        with self._changed:
            leased = [v.leased for versions in self._history.values() for v in versions.values()]
        servables = [each.servable for each in leased if each is not None]
        return sorted(servables, key=lambda servable: (servable.name, servable.version))

    # The manager's thread.

    def _work(self) -> None:
        while True:
            with self._changed:
                if self._stopping:
                    return
                poll = time.monotonic() >= self._poll_due
                models = dict(self._models)
            if poll:
                self._poll(models)
            while self._act():
                pass
            with self._changed:
                if not self._stopping:
                    self._changed.wait(self._idle_s())

    def _idle_s(self) -> float | None:
        now = time.monotonic()
        retries = [
            version.retry_at
            for name, versions in self._history.items()
            for version in versions.values()
            if version.number in self._aspired.get(name, ()) and version.state in (State.START, State.LOADING)
        ]
        due = min([*retries, self._poll_due])
        return None if due == float("inf") else max(0.0, min(due - now, 3600.0))

    def _poll(self, models: Mapping[str, ModelConfig]) -> None:
        """Looks at all base paths. A single one that is missing spoils the look for all, as with the binary."""
        chosen: dict[str, dict[int, str]] = {}
        failure: StatusError | None = None
        wait_s = self._options.file_system_poll_wait_seconds
        try:
            for name, model in models.items():
                chosen[name] = model.choose(versions_on_disk(model.base_path))
        except (OSError, tf.errors.OpError) as error:
            log.error("Could not find a base path: %s", error)
            chosen, failure = {}, from_exception(error)
        found = chosen.keys() == models.keys()
        with self._changed:
            if models.keys() != self._models.keys() or any(models[name] is not self._models[name] for name in models):
                return  # another configuration came meanwhile: look again at once
            self._poll_error = failure
            if found or wait_s > 0:
                self._poll_due = time.monotonic() + wait_s if wait_s > 0 else float("inf")
            else:
                self._poll_due = time.monotonic() + 1.0  # polled once, but once must have worked
            for name, folders in chosen.items():
                if not folders:
                    log.warning("No versions of servable %s found under base path %s", name, models[name].base_path)
                self._aspire(name, folders)
            self._changed.notify_all()

    def _aspire(self, name: str, folders: Mapping[int, str]) -> None:
        history = self._history.setdefault(name, {})
        before = self._aspired.get(name, frozenset())
        for number, path in folders.items():
            known = history.get(number)
            unloaded = known is not None and known.state is State.END and known.error is None
            # What failed for good starts anew only when it comes back after an absence.
            if known is None or unloaded or (known.failed_for_good and number not in before):
                history[number] = Version(name, number, path)
        for version in history.values():
            if version.number not in folders and version.error is not None and version.state is State.LOADING:
                version.state, version.error = State.END, None  # nobody wants it to be tried again
        self._aspired[name] = frozenset(folders)

    def _act(self) -> bool:
        """Takes one step for each model that needs one; says whether there may be more to do."""
        with self._changed:
            if self._stopping:
                return False
            now = time.monotonic()
            actions = [
                next_action(versions.values(), self._aspired.get(name, frozenset()), now)
                for name, versions in self._history.items()
            ]
            due = [action for action in actions if action is not None]
            if self._options.strict and (retried := self._retried()):  # other loads wait for it, as with the binary
                due = [action for action in due if not action.load or action.version in retried]
        for action in due:
            if action.load:
                self._load_version(action.version)
            else:
                self._unload_version(action.version)
        return bool(due)

    def _retried(self) -> list[Version]:
        """The versions whose load failed and will be tried again."""
        versions = (version for versions in self._history.values() for version in versions.values())
        return [version for version in versions if version.state is State.LOADING and version.error is not None]

    def _load_version(self, version: Version) -> None:
        self._set_state(version, State.LOADING)
        started = time.monotonic()
        try:
            servable = self._load(version.model, version.number, version.path)
        except Exception as error:
            self._note_failure(version, from_exception(error))
            return
        seconds = time.monotonic() - started
        log.info("Loaded servable %s version %d in %.1f s", version.model, version.number, seconds)
        with self._changed:
            version.leased, version.error = LeasedServable(servable), None
        self._set_state(version, State.AVAILABLE)

    def _note_failure(self, version: Version, error: StatusError) -> None:
        log.error("Loading servable {name: %s version: %d} failed: %s", version.model, version.number, error)
        with self._changed:
            version.error = error
            version.attempts += 1
            version.retry_at = time.monotonic() + self._options.load_retry_interval_micros / 1e6
            over = version.attempts > self._options.max_num_load_retries
            version.state = State.END if over else State.LOADING
            self._changed.notify_all()

    def _unload_version(self, version: Version) -> None:
        with self._changed:
            leased, version.leased = version.leased, None
            version.state = State.UNLOADING
            self._changed.notify_all()
        if leased is None:
            return
        leased.release()
        if leased.wait_closed(0):
            self._end(version)
        else:  # requests are still in flight; the last of them closes it
            waiter = threading.Thread(target=self._end_when_closed, args=(version, leased), daemon=True)
            waiter.start()

    def _end_when_closed(self, version: Version, leased: LeasedServable) -> None:
        leased.wait_closed()
        self._end(version)

    def _end(self, version: Version) -> None:
        log.info("Unloaded servable %s version %d", version.model, version.number)
        self._set_state(version, State.END)

    def _set_state(self, version: Version, state: State) -> None:
        with self._changed:
            version.state = state
            self._changed.notify_all()
