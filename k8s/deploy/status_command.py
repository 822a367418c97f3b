"""`flow-images deploy status`: the state of servers, Jobs and pods in the cluster."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from k8s.deploy.cluster_options import ClusterOptions
from k8s.deploy.ownership import PART_OF
from k8s.plain_lines import say
from serving.console.grouped_help import GroupedCommand
from serving.console.option_flags import option_flags

if TYPE_CHECKING:
    from k8s.deploy.cluster import Cluster


@click.command(cls=GroupedCommand, examples=("flow-images deploy status",))
@option_flags(ClusterOptions)
def status(options: ClusterOptions) -> None:
    """Show servers and Jobs, and what is in their way."""
    cluster = options.connect()
    for line in list(_overview(cluster)) or [f"nothing of flow-images is in namespace {cluster.namespace}"]:
        say(line)


def _overview(cluster: "Cluster") -> Iterator[str]:
    from k8s.deploy import explain

    for deployment in cluster.all("apps/v1", "Deployment", label_selector=PART_OF):
        yield f"deployment/{deployment['metadata']['name']}: {explain.rollout_state(deployment)[1]}"
        if stuck := explain.rollout_problem(deployment):
            yield f"  {stuck}"
    for job in cluster.all("batch/v1", "Job", label_selector=PART_OF):
        state, words = explain.job_state(job)
        yield f"job/{job['metadata']['name']} {state}: {words}"
        if explain.lacks_pods(job) and (refused := explain.refused_pods(cluster.events_of(job))):
            yield f"  {refused}"
    for pod in cluster.all("v1", "Pod", label_selector=PART_OF):
        if problem := explain.pod_problem(pod, cluster.events_of(pod)):
            yield f"  {problem}"
