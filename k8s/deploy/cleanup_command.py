"""`flow-images deploy cleanup`."""

from typing import TYPE_CHECKING

import click

from k8s.deploy.cluster_options import ClusterOptions
from k8s.deploy.left_behind import current_remains
from k8s.deploy.ownership import PART_OF
from k8s.plain_lines import say
from serving.console.grouped_help import GroupedCommand
from serving.console.option_fields import option, options_class
from serving.console.option_flags import option_flags

if TYPE_CHECKING:
    from k8s.deploy.cluster import Cluster, Object

_RUNS = [("kubernetes.dask.org/v1", "DaskCluster"), ("apps/v1", "Deployment"), ("v1", "Pod")]
_DEPLOYED = [
    *_RUNS,
    ("autoscaling/v2", "HorizontalPodAutoscaler"),
    ("policy/v1", "PodDisruptionBudget"),
    ("v1", "Service"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
    ("v1", "ConfigMap"),
    ("v1", "ServiceAccount"),
]


@options_class
class DeployCleanupOptions(ClusterOptions, group="Cluster"):
    """What is deleted besides finished Jobs."""

    everything: bool = option("Also the servers and the Jobs that still run.", default=False, flag="--all")
    volumes: bool = option("Also the volumes: images, models and output are lost.", default=False)


@click.command(cls=GroupedCommand, examples=("flow-images deploy cleanup", "flow-images deploy cleanup --all"))
@option_flags(DeployCleanupOptions)
def cleanup(options: DeployCleanupOptions) -> None:
    """Delete finished Jobs, or all that was deployed.

    When no server, Job, Dask cluster or pod of ours is left, what they needed goes, too.
    """
    from k8s.deploy import changes, explain
    from k8s.deploy.cluster_errors import Forbidden

    cluster = options.connect()
    everything = options.everything
    jobs = _ours(cluster, "batch/v1", "Job")
    ended = [job for job in jobs if everything or explain.job_state(job)[0] in ("complete", "failed")]
    gone = [("batch/v1", "Job", job) for job in ended]
    if everything or len(ended) == len(jobs):
        try:
            found = {(version, kind): _ours(cluster, version, kind) for version, kind in _DEPLOYED}
        except Forbidden:  # who may see Jobs alone cleans up those
            if everything:
                raise
            found = {}
        if everything or not any(found.get(kind) for kind in _RUNS):
            gone += [(version, kind, obj) for (version, kind), objects in found.items() for obj in objects]
    if options.volumes:
        claim = ("v1", "PersistentVolumeClaim")
        gone += [(*claim, obj) for obj in _ours(cluster, *claim)]
    changes.check_ours(cluster, [(kind, obj) for _, kind, obj in gone])
    for count, (api_version, kind, obj) in enumerate(gone):
        current_remains().words = f"{count} of {len(gone)} objects were deleted; the same command continues"
        changes.delete(cluster, api_version, kind, obj)
        say(f"{kind.lower()}/{obj['metadata']['name']} deleted")
    if not gone:
        say(f"nothing to delete in namespace {cluster.namespace}")


def _ours(cluster: "Cluster", api_version: str, kind: str) -> "list[Object]":
    """What carries our label, and has no owner with which it goes."""
    found = cluster.all(api_version, kind, label_selector=PART_OF) if cluster.knows(api_version, kind) else []
    return [obj for obj in found if not obj["metadata"].get("ownerReferences")]
