"""Tells whose an object of the cluster is, by its labels and field managers. Only ours are changed and deleted."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

Object = dict[str, Any]

LABEL, VALUE = "app.kubernetes.io/part-of", "flow-images"
PART_OF = f"{LABEL}={VALUE}"
"""Selects what carries our label."""
MANAGER = "flow-images"
"""The field manager under which our fields stand in server-side apply."""
APPLIERS = frozenset(
    {
        MANAGER,
        "kubectl",
        "kubectl-client-side-apply",
        "kubectl-create",
        "argocd-controller",
        "argocd-application-controller",
        "kustomize-controller",
    }
)
"""Field managers of everybody who sends our manifests: this client, and what docs/kubernetes.md names beside it."""
_CHANGERS = frozenset({*APPLIERS, "OpenAPI-Generator", "kube-controller-manager"})
"""Who may have changed a field of ours: also this client before it named itself, and the autoscaler."""


def is_ours(obj: Object) -> bool:
    """Whether it carries our label, and was sent by somebody who sends our manifests."""
    return has_our_label(obj) and not APPLIERS.isdisjoint(managers(obj)) and not _was_taken_over(obj)


def has_our_label(obj: Object) -> bool:
    """Whether it is labelled as part of flow-images, as a volume may be that is made by hand."""
    return (obj["metadata"].get("labels") or {}).get(LABEL) == VALUE


def may_change(manager: str) -> bool:
    """Whether a field that this manager has set in an object of ours is set anew, as the user asks for it."""
    return manager in _CHANGERS or manager.startswith("kubectl-")


def managers(obj: Object) -> list[str]:
    """Who has set fields other than the status, in the order of their entries."""
    entries = obj["metadata"].get("managedFields") or []
    return list(dict.fromkeys(e.get("manager", "") for e in entries if e.get("subresource") != "status"))


def whose(obj: Object) -> str:
    """What tells a person who has made it: its labels, its field managers, its owner."""
    labels = [f"{key}={value}" for key, value in (obj["metadata"].get("labels") or {}).items()]
    owners = [f"{o['kind']} {o['name']}" for o in obj["metadata"].get("ownerReferences") or []]
    parts = [
        f"labels {_some(labels)}" if labels else "no labels",
        f"managed by {_some(managers(obj))}" if managers(obj) else "",
        f"owned by {_some(owners)}" if owners else "",
    ]
    return ", ".join(filter(None, parts))


def selects_everybody(policy: Object) -> bool:
    """Whether a NetworkPolicy takes pods for what they have not: all of a namespace, or all but ours."""
    selector: Mapping[str, Any] = policy["spec"].get("podSelector") or {}
    negative = {"NotIn", "DoesNotExist"}
    return not selector.get("matchLabels") and all(
        e.get("operator") in negative for e in selector.get("matchExpressions") or []
    )


def _was_taken_over(obj: Object) -> bool:
    """Whether it was applied by kubectl without our label, which came later, e.g. from an older client of ours."""
    applied = (obj["metadata"].get("annotations") or {}).get("kubectl.kubernetes.io/last-applied-configuration")
    if applied is None:
        return False
    try:
        return not has_our_label(json.loads(applied))
    except (ValueError, TypeError, KeyError, AttributeError):
        return True


def _some(words: Iterable[str], most: int = 4) -> str:
    words = list(words)
    return ", ".join(words[:most]) + (", …" if len(words) > most else "")
