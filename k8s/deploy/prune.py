"""Deletes the ConfigMaps of earlier servers: each change of their options leaves one, as its name has a new hash."""

import contextlib
import json
import re

from k8s.deploy import changes, ownership
from k8s.deploy.cluster import Cluster, Object
from k8s.deploy.cluster_errors import Conflict, Forbidden
from k8s.deploy.overlay import COMPONENT

_USERS = [("apps/v1", "Deployment"), ("apps/v1", "ReplicaSet"), ("batch/v1", "Job"), ("v1", "Pod")]
_GENERATED = re.compile(r".+-[a-z0-9]{10}")


def prune_server_options(cluster: Cluster) -> None:
    """Deletes those that no server, and no earlier ReplicaSet that a server may go back to, refers to.

    Only what is older than what is in use: a newer one may be another client's, which is about to use it.
    """
    with contextlib.suppress(Forbidden, Conflict):
        specs = json.dumps([obj.get("spec") for kind in _USERS for obj in cluster.all(*kind)])
        selector = f"{ownership.PART_OF},{COMPONENT}=serving"
        found = cluster.all("v1", "ConfigMap", label_selector=selector)
        maps = {_name(m): m for m in found if _GENERATED.fullmatch(_name(m)) and ownership.is_ours(m)}
        used = {name for name in maps if json.dumps(name) in specs}
        newest_used = max((_made(maps[name]) for name in used), default="")
        for name in maps.keys() - used:
            if _made(maps[name]) < newest_used:
                changes.delete(cluster, "v1", "ConfigMap", maps[name])


def _name(obj: Object) -> str:
    return str(obj["metadata"]["name"])


def _made(obj: Object) -> str:
    return str(obj["metadata"]["creationTimestamp"])
