"""Following a Job while the cluster's answers come and go."""

from typing import Any, cast

import pytest

from k8s.deploy import follow
from k8s.deploy.cluster import Cluster
from k8s.deploy.cluster_errors import Unreachable


class _SilentAtFirst:
    """A cluster whose API server is replaced just now; then it has a Job that is done."""

    namespace = "flow-images"

    def __init__(self, silent: int) -> None:
        self.silent = silent

    def get(self, *_: str) -> dict[str, Any]:
        self.silent -= 1
        if self.silent >= 0:
            raise Unreachable("can't read Job p: no answer from here")
        return {"spec": {}, "status": {"succeeded": 1, "conditions": [{"type": "Complete", "status": "True"}]}}

    def all(self, *_: str, **__: str) -> list[dict[str, Any]]:
        return []


def test_a_cluster_that_is_silent_for_a_while_is_asked_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "POLL_S", 0)
    said: list[str] = []
    follow.Follower(cast(Cluster, _SilentAtFirst(3)), said.append, timeout_s=60).job("p")
    assert said == ["can't read Job p: no answer from here; asking on", "job/p complete: 1/1 done"]
    monkeypatch.setattr(follow, "SILENCE_S", 0)
    with pytest.raises(Unreachable):
        follow.Follower(cast(Cluster, _SilentAtFirst(3)), said.append, timeout_s=60).job("p")
