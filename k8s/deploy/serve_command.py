"""`flow-images deploy serve`."""

import click

from k8s.deploy.apply_and_wait import ApplyOptions, apply_and_wait, model_name
from serving.console.grouped_help import GroupedCommand
from serving.console.option_fields import option, options_class
from serving.console.option_flags import option_flags


@options_class
class ServedModelOptions(ApplyOptions, group="Model"):
    """Which model the servers serve."""

    model_name: str | None = option(
        "The model's name.", default=None, metavar="NAME", parse=model_name, default_words="the manifests' MODEL_NAME"
    )


@options_class
class DeployServeOptions(ServedModelOptions, group="Server"):
    """What servers are told otherwise than by the manifests."""

    # No cluster has room for more.
    replicas: int | None = option("How many servers.", default=None, least=0, most=10_000)


@click.command(
    cls=GroupedCommand,
    examples=("flow-images deploy serve", "flow-images deploy serve -k gpu --model-name dogs --replicas 3"),
)
@option_flags(DeployServeOptions)
def serve(options: DeployServeOptions) -> None:
    """Serve the newest version, and keep the one before it loaded."""
    apply_server(options, replicas=options.replicas)


def apply_server(options: ServedModelOptions, *, version: int | None = None, replicas: int | None = None) -> None:
    """Applies the servers' manifests, and waits for the servers.

    Args:
      options: the user's.
      version: the one to serve alone; None for the newest, and the one before it.
      replicas: how many servers; None for the manifests' number.
    """
    from k8s.deploy import prune, submit

    objects = submit.serve(
        options.folder, options.namespace, version=version, model_name=options.model_name, replicas=replicas
    )
    if cluster := apply_and_wait(objects, options, deployment="serving"):
        prune.prune_server_options(cluster)
