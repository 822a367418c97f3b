"""Applies manifests and waits for the end, as `deploy train`, `serve`, `rollback` and `predict` do."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from k8s.deploy.cluster_options import ClusterOptions
from k8s.deploy.left_behind import current_remains
from k8s.plain_lines import say
from serving.console.option_fields import option, options_class

if TYPE_CHECKING:
    from k8s.deploy.cluster import Cluster, Object


@options_class
class ApplyOptions(ClusterOptions, group="Cluster"):
    """Which manifests to apply, and what to wait for."""

    manifests: str = option(
        "local, gpu, bucket-gs, bucket-s3, or a folder of your own with a kustomization.yaml.",
        default="local",
        short="-k",
        metavar="NAME|FOLDER",
    )
    dry_run: Literal["none", "client", "server"] = option(
        "client: print the manifests. server: let the cluster check them, and change nothing.", default="none"
    )
    wait: bool = option("Wait for the end, and tell what happens until then.", default=True)
    timeout: float | None = option("Seconds to wait at most.", default=None, metavar="SECONDS", least=0)

    @property
    def folder(self) -> Path:
        """The folder that `manifests` means."""
        from k8s.deploy.overlay import folder_of

        return folder_of(self.manifests)


def model_name(text: str) -> str:
    """The text, if a model may have it as its name.

    Raises:
      ValueError: it may not.
    """
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", text, re.ASCII):
        raise ValueError("expected letters, digits, '.', '-' and '_', as it becomes part of URLs")
    return text


def check_more(_: click.Context, __: click.Parameter, words: tuple[str, ...]) -> tuple[str, ...]:
    """A callback for what goes to the pods' command as it is."""
    if words and not words[0].startswith("-"):
        raise click.BadParameter(f"{words[0]!r} is not expected here; what goes to the pods' command begins with --")
    return words


def apply_and_wait(
    objects: "Sequence[Object]",
    options: ApplyOptions,
    *,
    job: str | None = None,
    deployment: str | None = None,
    again: str | None = None,
) -> "Cluster | None":
    """Applies the objects, and waits for the Job or the Deployment among them.

    Returns the cluster where that is complete or ready; None where it wasn't waited for.

    Args:
      objects: of the manifests.
      options: the user's.
      job: the Job to wait for.
      deployment: the Deployment to wait for.
      again: the option by which the same command means the same Job.
    """
    if options.dry_run == "client":
        import yaml

        click.echo(yaml.safe_dump_all(objects), nl=False)
        return None
    from k8s.deploy import changes
    from k8s.deploy.follow import Follower

    own = next((o["metadata"]["namespace"] for o in objects if "namespace" in o["metadata"]), None)
    cluster = options.connect(own)
    flags = options.flags(cluster.namespace)
    what = f"job/{job}" if job else f"deployment/{deployment}"
    steps = changes.plan(cluster, objects)
    remains = current_remains()
    if options.dry_run == "none":
        remains.words = (
            f"what was applied so far stays in namespace {cluster.namespace}, and {what} may be among it; "
            f"`flow-images deploy status{flags}` shows it, `flow-images deploy cleanup{flags}` removes it once "
            f"nothing runs, the same command{f' with {again}' if again else ''} continues"
        )
    for line in changes.send(cluster, steps, dry_run=options.dry_run == "server"):
        say(line)
    if options.dry_run == "server":
        return None
    remains.words = f"{what} goes on in namespace {cluster.namespace}; " + (
        f"the same command with {again} waits on, `flow-images deploy suspend{flags} {job}` stops it, "
        f"`kubectl -n {cluster.namespace} delete job {job}` removes it"
        if job
        else f"the same command waits on, `flow-images deploy cleanup --all{flags}` removes all that was deployed"
    )
    if not options.wait:
        return None
    with Follower(cluster, say, timeout_s=options.timeout) as follower:
        if job:
            follower.job(job)
        if deployment:
            follower.rollout(deployment)
    say(f"done: {what} is {'complete' if job else 'ready'}")
    return cluster
