"""The connection to a cluster: a thin layer over the official client that speaks plain dicts and plain errors."""

import contextlib
import json
import logging
from collections.abc import Iterator, Sequence
from typing import Any

from kubernetes import client, config, dynamic
from kubernetes.dynamic.exceptions import ResourceNotFoundError
from urllib3.exceptions import HTTPError
from yaml import YAMLError

from k8s.errors import DeployError, Forbidden, Unreachable

Object = dict[str, Any]

MANAGER = "flow-images"
"""The field manager under which our fields stand in server-side apply."""

# Everything that others refer to comes before those who refer to it.
_ORDER = ("Namespace", "PriorityClass", "ServiceAccount", "ConfigMap", "PersistentVolumeClaim", "NetworkPolicy")
_KEPT = ("Namespace", "PersistentVolumeClaim")


_ANSWER_S = 30.0
_QUIET_S = 86400.0
"""How long an answer may take, and how long a log may be quiet that is followed."""


class _Api(client.ApiClient):
    """Gives up a request that nobody answers; by itself the library waits for ever."""

    def call_api(self, *args: Any, **kwargs: Any) -> Any:
        kwargs["_request_timeout"] = kwargs.get("_request_timeout") or _ANSWER_S
        return super().call_api(*args, **kwargs)


class Cluster:
    """One context and namespace of a kubeconfig."""

    def __init__(self, *, context: str | None, kubeconfig: str | None, namespace: str) -> None:
        self.namespace = namespace
        configuration = client.Configuration()
        configuration.retries = 1
        # It warns of each retry; that nobody answers is said once, by us.
        logging.getLogger("urllib3").setLevel(logging.ERROR)
        try:
            config.load_kube_config(config_file=kubeconfig, context=context, client_configuration=configuration)
        except (config.ConfigException, OSError, YAMLError) as error:
            why = " ".join(str(error).split())
            raise DeployError(f"no way to a cluster: {why}; see `kubectl config get-contexts`") from error
        self.where = f"{context or 'the current context'} ({configuration.host})"
        api = _Api(configuration)
        self._core = client.CoreV1Api(api)
        with self._translated("ask the cluster what it knows"):
            self._dynamic = dynamic.DynamicClient(api)

    def apply(self, objects: Sequence[Object], *, dry_run: bool) -> Iterator[str]:
        """Server-side apply, one line for each object; volumes that are there are left as they are."""
        rank = {kind: place for place, kind in enumerate(_ORDER)}
        for o in sorted(objects, key=lambda o: rank.get(o["kind"], len(rank))):
            kind, name = o["kind"], o["metadata"]["name"]
            resource = self._resource(o["apiVersion"], kind)
            label = f"{kind.lower()}/{name}"
            try:
                with self._translated(f"apply {kind} {name}"):
                    if kind in _KEPT and self._exists(resource, name, o):
                        yield f"{label} is there"
                        continue
                    self._dynamic.server_side_apply(
                        resource,
                        body=o,
                        name=name,
                        namespace=o["metadata"].get("namespace"),
                        field_manager=MANAGER,
                        force_conflicts=True,
                        **({"dry_run": "All"} if dry_run else {}),
                    )
            except Forbidden:
                # A team often owns its namespace, but nothing above it.
                if resource.namespaced:
                    raise
                yield f"{label} left out: you have no rights to it in {self.where}"
            else:
                yield f"{label} {'would be applied' if dry_run else 'applied'}"

    def get(self, api_version: str, kind: str, name: str) -> Object:
        """One object of the namespace."""
        with self._translated(f"read {kind} {name}"):
            found: Object = self._resource(api_version, kind).get(name=name, namespace=self.namespace).to_dict()
            return found

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

    def patch(self, api_version: str, kind: str, name: str, patch: Object) -> None:
        """Merges a patch into an object."""
        with self._translated(f"change {kind} {name}"):
            resource = self._resource(api_version, kind)
            content = "application/merge-patch+json"
            resource.patch(body=patch, name=name, namespace=self.namespace, content_type=content)

    def delete(self, api_version: str, kind: str, name: str) -> None:
        """Deletes an object and, in the background, what it owns."""
        with self._translated(f"delete {kind} {name}"):
            body = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
            self._resource(api_version, kind).delete(name=name, namespace=self.namespace, body=body)

    def log_lines(self, pod: str, container: str) -> Iterator[str]:
        """The log of a container, as it comes, until the container ends."""
        pending = b""
        with contextlib.suppress(client.ApiException, HTTPError, OSError):  # A pod that goes takes its log along.
            answer: Any = self._core.read_namespaced_pod_log(
                pod,
                self.namespace,
                container=container,
                follow=True,
                _preload_content=False,
                _request_timeout=(_ANSWER_S, _QUIET_S),
            )
            for chunk in answer.stream(decode_content=False):
                *lines, pending = (pending + chunk).split(b"\n")
                for line in lines:
                    yield line.decode(errors="replace")
        if pending:
            yield pending.decode(errors="replace")

    def _resource(self, api_version: str, kind: str) -> Any:
        try:
            with self._translated(f"look for {kind}"):
                return self._dynamic.resources.get(api_version=api_version, kind=kind)
        except ResourceNotFoundError as error:
            raise DeployError(
                f"{self.where} knows no {kind} {api_version}: it needs Kubernetes 1.34 or newer"
            ) from error

    def _exists(self, resource: Any, name: str, o: Object) -> bool:
        try:
            resource.get(name=name, namespace=o["metadata"].get("namespace"))
        except client.ApiException as error:
            if error.status == 404:
                return False
            raise
        return True

    @contextlib.contextmanager
    def _translated(self, action: str) -> Iterator[None]:
        """Turns the client's errors into one plain sentence."""
        try:
            yield
        except client.ApiException as error:
            raise _api_error(error, action, self) from error
        except (HTTPError, OSError) as error:
            raise Unreachable(f"can't {action}: no answer from {self.where}: {_short(error)}") from error


def _api_error(error: client.ApiException, action: str, cluster: Cluster) -> DeployError:
    try:
        message = json.loads(error.body or "")["message"]
    except (TypeError, ValueError, KeyError):
        message = " ".join(str(error.body or error.reason).split())
    where = f"in namespace {cluster.namespace} of {cluster.where}"
    if not error.status:  # It didn't come to a conversation, e.g. for want of a certificate that fits.
        return Unreachable(f"can't {action}: no answer from {cluster.where}: {_short(error)}")
    if error.status == 401:
        return DeployError(f"can't {action}: {cluster.where} does not know you; log in again")
    if error.status == 403 and " cannot " in message:  # Else it's not about rights: a quota, a namespace that ends.
        return Forbidden(f"you may not {action} {where}: ask its administrator for the role `edit` there ({message})")
    if error.status == 404 and "namespaces" in message:
        return DeployError(f"can't {action}: there is no namespace {cluster.namespace}; make it first")
    if error.status == 404:
        return DeployError(f"can't {action}: it is not {where}")
    if error.status == 422 and "field is immutable" in message:
        return DeployError(f"can't {action}: it is there with other values and can't be changed; delete it first")
    if error.status == 429 or error.status >= 500:
        return Unreachable(f"can't {action}: {cluster.where} answers {error.status}: {message}")
    return DeployError(f"can't {action}: {message}")


def _short(error: Exception) -> str:
    reason = getattr(error, "reason", None) or error
    return str(reason).rpartition(": ")[2] or type(error).__name__
