"""Which objects of a namespace are ours."""

import json
from typing import Any

from k8s.deploy import ownership


def test_whose_an_object_is() -> None:
    def made(by: str, **labels: str) -> dict[str, Any]:
        status = {"manager": "kubectl", "subresource": "status"}
        metadata = {"labels": {f"app.kubernetes.io/{k}": v for k, v in labels.items()}}
        return {"metadata": {**metadata, "managedFields": [{"manager": by}, status]}}

    ours = {"part-of": "flow-images"}
    assert ownership.is_ours(made("flow-images", **ours))
    assert ownership.is_ours(made("kubectl-client-side-apply", **ours))
    assert not ownership.is_ours(made("helm", **ours))
    assert not ownership.is_ours(made("flow-images"))
    assert not ownership.is_ours(made("flow-images", **{"part-of": "shop"}))
    assert not ownership.is_ours({"metadata": {"labels": None}})
    applied = {"{}": False, "?": False, json.dumps(made("")): False, json.dumps(made("", **ours)): True}
    for text, still in applied.items():
        labelled = made("kubectl-client-side-apply", **ours)
        labelled["metadata"]["annotations"] = {"kubectl.kubernetes.io/last-applied-configuration": text}
        assert ownership.is_ours(labelled) == still, text
    assert ownership.whose(made("helm", name="x")) == "labels app.kubernetes.io/name=x, managed by helm"
