"""`flow-images deploy resume`."""

import click

from k8s.deploy.cluster_options import ClusterOptions
from k8s.deploy.suspend_command import check_job, set_suspended
from k8s.plain_lines import say
from serving.console.grouped_help import GroupedCommand
from serving.console.option_flags import option_flags


@click.command(cls=GroupedCommand, examples=("flow-images deploy resume predict-20261130-120000",))
@option_flags(ClusterOptions)
@click.argument("job", callback=check_job)
def resume(options: ClusterOptions, job: str) -> None:
    """Let a suspended Job go on."""
    set_suspended(job, False, options)
    say(f"job/{job} goes on")
