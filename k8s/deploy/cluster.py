"""The connection to a cluster: a thin layer over the official client that speaks plain dicts and plain errors."""

import contextlib
import json
import logging
import re
from collections.abc import Iterator
from typing import Any

from kubernetes import client, config, dynamic
from kubernetes.dynamic.exceptions import NotFoundError, ResourceNotFoundError
from urllib3.exceptions import HTTPError, LocationValueError
from yaml import YAMLError

from k8s.deploy.cluster_errors import Conflict, DeployError, Forbidden, Unreachable
from k8s.deploy.ownership import MANAGER

Object = dict[str, Any]

_ANSWER_S = 30.0
_QUIET_S = 86400.0
"""How long an answer may take, and how long a log may be quiet that is followed."""
_QUOTED = 300
"""Characters of an answer that is not a Status of Kubernetes, such as a proxy's page."""
_NEVER = ("CERTIFICATE_VERIFY_FAILED", "WRONG_VERSION_NUMBER", "UNKNOWN_CA", "CERTIFICATE_REQUIRED")
"""OpenSSL's words for what stays as it is until somebody changes the kubeconfig or the cluster."""
_UNEXPECTED = (ValueError, TypeError, KeyError, AttributeError, IndexError)
"""What the library raises of files and answers that are not what they should be."""
_MANAGER_IN = re.compile(r'conflict with "([^"]*)"')


class _Api(client.ApiClient):
    """Gives up a request without an answer; by default the library waits for ever."""

    def call_api(self, *args: Any, **kwargs: Any) -> Any:
        kwargs["_request_timeout"] = kwargs.get("_request_timeout") or _ANSWER_S
        return super().call_api(*args, **kwargs)


class Cluster:
    """One context and namespace of a kubeconfig."""

    def __init__(self, *, context: str | None, kubeconfig: str | None, namespace: str) -> None:
        self.namespace = namespace
        configuration = client.Configuration()
        configuration.retries = 1
        # It warns of each retry; our error is enough.
        logging.getLogger("urllib3").setLevel(logging.ERROR)
        try:
            config.load_kube_config(config_file=kubeconfig, context=context, client_configuration=configuration)
            if not configuration.host.startswith(("https://", "http://")):
                raise ValueError(f"the server {configuration.host} must begin with https://")
            api = _Api(configuration)
        except (config.ConfigException, HTTPError, OSError, YAMLError, *_UNEXPECTED) as error:
            raise DeployError(f"no cluster can be reached: {error}; see `kubectl config get-contexts`") from error
        self.where = f"{context or 'the current context'} ({configuration.host})"
        self._core = client.CoreV1Api(api)
        with self._translated("ask the cluster what it knows"):
            self._dynamic = dynamic.DynamicClient(api)

    def read(self, manifest: Object) -> Object | None:
        """What the cluster has of this kind, namespace and name."""
        name = manifest["metadata"]["name"]
        with self._translated(f"apply {manifest['kind']} {name}"), contextlib.suppress(NotFoundError):
            resource = self._resource(manifest["apiVersion"], manifest["kind"])
            found: Object = resource.get(name=name, namespace=manifest["metadata"].get("namespace")).to_dict()
            return found
        return None

    def is_namespaced(self, manifest: Object) -> bool:
        """Whether it lies in a namespace; a team often has no rights above its own."""
        return bool(self._resource(manifest["apiVersion"], manifest["kind"]).namespaced)

    def create(self, manifest: Object, *, dry_run: bool = False) -> None:
        """Makes an object; raises Conflict if there is one already."""
        with self._translated(f"apply {manifest['kind']} {manifest['metadata']['name']}"):
            self._resource(manifest["apiVersion"], manifest["kind"]).create(
                body=manifest,
                namespace=manifest["metadata"].get("namespace"),
                field_manager=MANAGER,
                **({"dry_run": "All"} if dry_run else {}),
            )

    def apply(self, manifest: Object, *, force: bool = False, dry_run: bool = False) -> None:
        """Server-side apply; raises Conflict if others hold a field that would be changed, unless it is forced.

        A `uid` in the manifest is a condition: the object that is there must have it.
        """
        with self._translated(f"apply {manifest['kind']} {manifest['metadata']['name']}"):
            self._dynamic.server_side_apply(
                self._resource(manifest["apiVersion"], manifest["kind"]),
                body=manifest,
                name=manifest["metadata"]["name"],
                namespace=manifest["metadata"].get("namespace"),
                field_manager=MANAGER,
                force_conflicts=force,
                **({"dry_run": "All"} if dry_run else {}),
            )

    def get(self, api_version: str, kind: str, name: str) -> Object:
        """One object of the namespace."""
        with self._translated(f"read {kind} {name}"):
            found: Object = self._resource(api_version, kind).get(name=name, namespace=self.namespace).to_dict()
            return found

    def knows(self, api_version: str, kind: str) -> bool:
        """Whether there can be such objects: those of an operator that isn't installed can't."""
        with self._translated(f"look for {kind}"):
            return bool(self._dynamic.resources.search(api_version=api_version, kind=kind))

    def all(self, api_version: str, kind: str, **selectors: str) -> list[Object]:
        """Objects of the namespace, by label_selector or field_selector."""
        with self._translated(f"list {kind}"):
            found = self._resource(api_version, kind).get(namespace=self.namespace, **selectors)
            items: list[Object] = found.to_dict()["items"]
            return items

    def events_of(self, obj: Object) -> list[Object]:
        """Events about one object, the oldest first; not those of an earlier one of the same name."""
        found = self.all("v1", "Event", field_selector=f"involvedObject.uid={obj['metadata']['uid']}")
        return sorted(found, key=lambda e: e.get("lastTimestamp") or e.get("eventTime") or "")

    def patch(self, api_version: str, kind: str, obj: Object, patch: Object) -> None:
        """Merges a patch into an object; raises Conflict unless it is still as it was read."""
        with self._translated(f"change {kind} {obj['metadata']['name']}"):
            self._resource(api_version, kind).patch(
                body={**patch, "metadata": _as_read(obj)},
                name=obj["metadata"]["name"],
                namespace=self.namespace,
                content_type="application/merge-patch+json",
                field_manager=MANAGER,
            )

    def delete(self, api_version: str, kind: str, obj: Object) -> None:
        """Deletes an object and, in the background, what it owns; raises Conflict unless it is still as it was read."""
        with self._translated(f"delete {kind} {obj['metadata']['name']}"), contextlib.suppress(NotFoundError):
            body = {
                "kind": "DeleteOptions",
                "apiVersion": "v1",
                "propagationPolicy": "Background",
                "preconditions": _as_read(obj),
            }
            resource = self._resource(api_version, kind)
            resource.delete(name=obj["metadata"]["name"], namespace=self.namespace, body=body)

    def log(self, pod: str, container: str) -> "Log":
        """The log of a container of the namespace."""
        return Log(self._core, self.namespace, pod, container)

    def _resource(self, api_version: str, kind: str) -> Any:
        try:
            with self._translated(f"look for {kind}"):
                return self._dynamic.resources.get(api_version=api_version, kind=kind)
        except ResourceNotFoundError as error:
            needs = "the Dask operator" if "dask" in api_version else "Kubernetes 1.34 or newer"
            raise DeployError(f"{self.where} knows no {kind} {api_version}: it needs {needs}") from error

    @contextlib.contextmanager
    def _translated(self, action: str) -> Iterator[None]:
        """Turns the client's errors into one plain sentence."""
        try:
            yield
        except client.ApiException as error:
            raise _api_error(error, action, self) from error
        except (HTTPError, OSError) as error:
            raise _no_answer(error, action, self.where) from error
        except _UNEXPECTED as error:
            if isinstance(error.__context__, HTTPError):  # The library hides the network error behind it.
                raise _no_answer(error.__context__, action, self.where) from error
            raise _no_kubernetes(_short(error), action, self.where) from error


class Log:
    """The log of a container, as it comes; another thread may close it."""

    def __init__(self, core: Any, namespace: str, pod: str, container: str) -> None:
        self._core = core
        self._place = {"name": pod, "namespace": namespace, "container": container}
        self._answer: Any = None
        self._closed = False

    def lines(self) -> Iterator[str]:
        """Each line, until the container ends or the log is closed."""
        pending = b""
        try:
            self._answer = self._core.read_namespaced_pod_log(
                **self._place, follow=True, _preload_content=False, _request_timeout=(_ANSWER_S, _QUIET_S)
            )
            for chunk in () if self._closed else self._answer.stream(decode_content=False):
                *lines, pending = (pending + chunk).split(b"\n")
                for line in lines:
                    yield line.decode(errors="replace")
        except (client.ApiException, HTTPError, OSError):  # The log ends when its pod is deleted.
            pass
        except (ValueError, AttributeError):  # `close` closed the connection meanwhile.
            if not self._closed:
                raise
        if pending:
            yield pending.decode(errors="replace")

    def close(self) -> None:
        """Ends `lines`, which may wait for the next one."""
        self._closed = True
        with contextlib.suppress(OSError, ValueError, RuntimeError, AttributeError):  # It has just come to its end.
            self._answer.shutdown()


def _api_error(error: client.ApiException, action: str, cluster: Cluster) -> DeployError:
    try:
        body = json.loads(error.body or "")
        message = str(body["message"])
    except (TypeError, ValueError, KeyError):
        body, message = None, str(error.body or error.reason)[:_QUOTED]
    where = f"in namespace {cluster.namespace} of {cluster.where}"
    if not error.status:  # There was no answer.
        return _no_answer(error, action, cluster.where)
    if error.status == 401:
        return DeployError(f"can't {action}: {cluster.where} does not know you; log in again")
    if error.status in (408, 429) or error.status >= 500:
        return Unreachable(f"can't {action}: {cluster.where} answers {error.status}: {message}")
    if body is None:
        return _no_kubernetes(f"{error.status} {message}", action, cluster.where)
    if error.status == 403 and " cannot " in message:  # Else it's not about rights: a quota, a namespace that ends.
        return Forbidden(f"you may not {action} {where}: ask its administrator for the role `edit` there ({message})")
    if error.status == 404 and "namespaces" in message:
        return DeployError(f"can't {action}: there is no namespace {cluster.namespace}; make it first")
    if error.status == 404:
        return DeployError(f"can't {action}: it is not {where}")
    if error.status == 409:
        return Conflict(f"can't {action}: {message}", _holders(body))
    if error.status == 422 and "field is immutable" in message:
        return DeployError(f"can't {action}: it exists with other values and can't be changed; delete it first")
    return DeployError(f"can't {action}: {message}")


def _holders(body: Object) -> dict[str, list[str]]:
    """Field manager -> the fields that it holds, from the answer to a server-side apply that was not forced."""
    found: dict[str, list[str]] = {}
    for cause in (body.get("details") or {}).get("causes") or []:
        if cause.get("reason") == "FieldManagerConflict" and (name := _MANAGER_IN.search(cause.get("message", ""))):
            found.setdefault(name[1], []).append(str(cause.get("field", "")).lstrip("."))
    return found


def _as_read(obj: Object) -> Object:
    return {key: obj["metadata"][key] for key in ("uid", "resourceVersion")}


def _no_answer(error: Exception, action: str, where: str) -> DeployError:
    text = str(error)
    if isinstance(error, LocationValueError) or any(word in text for word in _NEVER):
        return DeployError(f"can't {action}: {where} can't be reached: {_short(error)}; see `kubectl config view`")
    return Unreachable(f"can't {action}: no answer from {where}: {_short(error)}")


def _no_kubernetes(answer: str, action: str, where: str) -> DeployError:
    return DeployError(f"can't {action}: {where} does not answer as Kubernetes does: {answer}")


def _short(error: Exception) -> str:
    reason = getattr(error, "reason", None) or error
    return str(reason).rpartition(": ")[2] or type(error).__name__
