"""`flow-images deploy rollback`."""

import click

from k8s.deploy.serve_command import ServedModelOptions, apply_server
from serving.console.grouped_help import GroupedCommand
from serving.console.option_fields import option, options_class
from serving.console.option_flags import option_flags
from serving.model_store.versions import HIGHEST_VERSION


@options_class
class DeployRollbackOptions(ServedModelOptions, group="Model"):
    """Which version to go back to."""

    version: int = option("The version to go back to.", least=1, most=HIGHEST_VERSION)


@click.command(cls=GroupedCommand, examples=("flow-images deploy rollback --version 3",))
@option_flags(DeployRollbackOptions)
def rollback(options: DeployRollbackOptions) -> None:
    """Serve one version only, until the next `deploy serve`.

    Servers are replaced one by one; a version that can't be loaded replaces none.
    """
    apply_server(options, version=options.version)
