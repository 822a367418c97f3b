"""Changes objects of a cluster, and nobody else's: all are checked before the first one is changed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from k8s.deploy import ownership
from k8s.deploy.cluster import Cluster, Object
from k8s.deploy.cluster_errors import Conflict, DeployError, Forbidden, Foreign
from serving.errors import EXIT_RESUMABLE

# Everything that others refer to comes before those who refer to it.
_ORDER = ("Namespace", "PriorityClass", "ServiceAccount", "ConfigMap", "PersistentVolumeClaim", "NetworkPolicy")
_KEPT = ("Namespace", "PersistentVolumeClaim")
"""Kinds that are made where they are not there, and else left as they are."""
_OWN_NAMESPACE = "flow-images/own-namespace"
_ATTEMPTS = 5
"""How often an object is read again that its controller has just changed."""


def plan(cluster: Cluster, objects: Sequence[Object]) -> "list[Step]":
    """What is to be done with each manifest, in the order of `send`; changes nothing.

    Raises:
      Foreign: some of these names are somebody else's.
    """
    rank = {kind: place for place, kind in enumerate(_ORDER)}
    steps = [_planned(cluster, o) for o in sorted(objects, key=lambda o: rank.get(o["kind"], len(rank)))]
    _refuse(cluster, [step.refused for step in steps if step.refused])
    return steps


def send(cluster: Cluster, steps: "Sequence[Step]", *, dry_run: bool) -> Iterator[str]:
    """Sends manifests by server-side apply, one line for each.

    Raises:
      Foreign: a name has been taken by somebody else since `plan`; it was left as it is.
    """
    for step in steps:
        yield f"{_called(step.manifest)} {step.left or _sent(cluster, step, dry_run=dry_run)}"


def delete(cluster: Cluster, api_version: str, kind: str, obj: Object) -> None:
    """Deletes an object of ours, unless it has become somebody else's."""
    for _ in range(_ATTEMPTS):
        if not ownership.is_ours(obj):
            raise Foreign(f"{_refusal(kind, obj)}; it was left as it is")
        try:
            return cluster.delete(api_version, kind, obj)
        except Conflict:
            found = cluster.read({**obj, "apiVersion": api_version, "kind": kind})
            if found is None:
                return None
            obj = found
    raise _keeps_changing(kind, obj["metadata"]["name"])


def patch(cluster: Cluster, api_version: str, kind: str, name: str, change: Object) -> None:
    """Merges a change into an object of ours."""
    for _ in range(_ATTEMPTS):
        obj = cluster.get(api_version, kind, name)
        check_ours(cluster, [(kind, obj)])
        try:
            return cluster.patch(api_version, kind, obj, change)
        except Conflict:
            continue
    raise _keeps_changing(kind, name)


def check_ours(cluster: Cluster, objects: Sequence[tuple[str, Object]]) -> None:
    """Raises Foreign, naming them, if some of these objects, each with its kind, are not ours."""
    _refuse(cluster, [_refusal(kind, obj) for kind, obj in objects if not ownership.is_ours(obj)])


@dataclass(frozen=True, kw_only=True)
class Step:
    """What is to be done with one manifest."""

    manifest: Object
    uid: str | None = None
    """The uid of our object of this name, if there is one."""
    force: bool = False
    left: str | None = None
    """Why nothing is to be done."""
    refused: str | None = None
    """Whose object it is, where it is not ours."""


def _refuse(cluster: Cluster, refusals: Sequence[str]) -> None:
    if refusals:
        raise Foreign(f"{'; '.join(refusals)}. Nothing was changed in {cluster.where}")


def _planned(cluster: Cluster, manifest: Object) -> Step:
    kind = manifest["kind"]
    if kind == "NetworkPolicy" and ownership.selects_everybody(manifest) and not _is_own_namespace(cluster, manifest):
        where = manifest["metadata"].get("namespace")
        why = f"left out: it is for pods that aren't ours, and namespace {where} was not made for flow-images alone"
        return Step(manifest=manifest, left=why)
    try:
        found = cluster.read(manifest)
        if found is None:
            return Step(manifest=manifest)
        if kind == "Namespace":  # The user names it by -n.
            return Step(manifest=manifest, left="is there")
        if kind == "PersistentVolumeClaim" and ownership.has_our_label(found):
            return Step(manifest=manifest, left="is there")
        if not ownership.is_ours(found):
            return Step(manifest=manifest, refused=_refusal(kind, found))
        return _planned_change(cluster, manifest, found)
    except Forbidden:
        if cluster.is_namespaced(manifest):
            raise
        return Step(manifest=manifest, left=_no_rights(cluster))


def _planned_change(cluster: Cluster, manifest: Object, found: Object) -> Step:
    uid = found["metadata"]["uid"]
    try:
        cluster.apply(_pinned(manifest, uid), dry_run=True)
    except Conflict as conflict:
        if not conflict.holders:
            raise _keeps_changing(manifest["kind"], manifest["metadata"]["name"]) from conflict
        held = [
            f"{field} is managed by {manager}"
            for manager, fields in conflict.holders.items()
            if not ownership.may_change(manager)
            for field in fields
        ]
        refused = f"of {manifest['kind']} {manifest['metadata']['name']}, {', '.join(held)}" if held else None
        return Step(manifest=manifest, uid=uid, force=True, refused=refused)
    return Step(manifest=manifest, uid=uid)


def _sent(cluster: Cluster, step: Step, *, dry_run: bool) -> str:
    manifest = step.manifest
    kind, name = manifest["kind"], manifest["metadata"]["name"]
    try:
        if kind in _KEPT:
            cluster.create(manifest, dry_run=dry_run)
        else:
            cluster.apply(_pinned(manifest, step.uid), force=step.force, dry_run=dry_run)
    except Forbidden:
        if cluster.is_namespaced(manifest):
            raise
        return _no_rights(cluster)
    except Conflict as conflict:  # It was not there, or another one, a moment ago.
        now = _planned(cluster, manifest)
        if now.refused:
            raise Foreign(f"{now.refused}; it was made by others just now, and was left as it is") from conflict
        raise _keeps_changing(kind, name) from conflict
    return "would be applied" if dry_run else "applied"


def _is_own_namespace(cluster: Cluster, policy: Object) -> bool:
    """Whether a policy's namespace is made for flow-images alone: marked so, or still to be made from our manifest."""
    name = policy["metadata"].get("namespace")
    try:
        found = cluster.read({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    except Forbidden:
        return False
    return found is None or (found["metadata"].get("labels") or {}).get(_OWN_NAMESPACE) == "true"


def _pinned(manifest: Object, uid: str | None) -> Object:
    return manifest if uid is None else {**manifest, "metadata": {**manifest["metadata"], "uid": uid}}


def _refusal(kind: str, found: Object) -> str:
    name, namespace = found["metadata"]["name"], found["metadata"].get("namespace")
    where = f" in namespace {namespace}" if namespace else ""
    if ownership.has_our_label(found):
        why = (
            "it has our label, but not from us, nor from our manifests by kubectl, Argo CD or Flux; "
            "remove the label, or delete the object yourself"
        )
    else:
        why = f"take another name or namespace, or, if it is for flow-images, give it the label {ownership.PART_OF}"
    return f"{kind} {name}{where} is somebody else's ({ownership.whose(found)}): {why}"


def _called(manifest: Object) -> str:
    return f"{manifest['kind'].lower()}/{manifest['metadata']['name']}"


def _no_rights(cluster: Cluster) -> str:
    return f"left out: you have no rights to it in {cluster.where}"


def _keeps_changing(kind: str, name: str) -> DeployError:
    return DeployError(
        f"{kind} {name} was changed by others at the same time: give the same command again", EXIT_RESUMABLE
    )
