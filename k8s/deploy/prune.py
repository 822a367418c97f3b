"""Deletes the ConfigMaps of earlier servers: each change of their options leaves one, as its name has a new hash."""

import contextlib
import re
from collections.abc import Iterator
from typing import Any

from k8s.deploy import changes, ownership
from k8s.deploy.cluster import Cluster, Object
from k8s.deploy.cluster_errors import Conflict, Forbidden
from k8s.deploy.overlay import COMPONENT

_USERS = [("apps/v1", "Deployment"), ("apps/v1", "ReplicaSet"), ("batch/v1", "Job"), ("v1", "Pod")]
_HASHED = re.compile(r"-[a-z0-9]{10}")


def prune_server_options(cluster: Cluster) -> None:
    """Deletes those that no server, and no earlier ReplicaSet that a server may go back to, refers to.

    Only what is older than what is in use: a newer one may be another client's, which is about to use it.
    """
    with contextlib.suppress(Forbidden, Conflict):
        used = {text for kind in _USERS for obj in cluster.all(*kind) for text in _texts(obj.get("spec"))}
        maps = [m for m in _generated(cluster) if ownership.is_ours(m)]
        in_use = [m["metadata"]["creationTimestamp"] for m in maps if m["metadata"]["name"] in used]
        for obj in maps:
            if obj["metadata"]["name"] not in used and obj["metadata"]["creationTimestamp"] < max(in_use, default=""):
                changes.delete(cluster, "v1", "ConfigMap", obj)


def _generated(cluster: Cluster) -> Iterator[Object]:
    for obj in cluster.all("v1", "ConfigMap", label_selector=f"{ownership.PART_OF},{COMPONENT}=serving"):
        if _HASHED.search(obj["metadata"]["name"]):
            yield obj


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)
