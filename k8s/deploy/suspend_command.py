"""`flow-images deploy suspend`."""

import click

from k8s.deploy.cluster_options import ClusterOptions, job_name
from k8s.deploy.left_behind import current_remains
from k8s.plain_lines import say
from serving.console.grouped_help import GroupedCommand
from serving.console.option_flags import option_flags


def check_job(_: click.Context, __: click.Parameter, name: str) -> str:
    """A callback for a Job's name."""
    try:
        return job_name(name)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@click.command(cls=GroupedCommand, examples=("flow-images deploy suspend predict-20261130-120000",))
@option_flags(ClusterOptions)
@click.argument("job", callback=check_job)
def suspend(options: ClusterOptions, job: str) -> None:
    """Stop a Job's pods, and keep what they have done."""
    set_suspended(job, True, options)
    say(f"job/{job} suspended; go on with: flow-images deploy resume{options.flags()} {job}")


def set_suspended(job: str, suspended: bool, options: ClusterOptions) -> None:
    """Suspends a Job, or lets it go on."""
    from k8s.deploy import changes

    cluster = options.connect()
    current_remains().words = f"`flow-images deploy status{options.flags()}` says whether job/{job} is suspended"
    changes.patch(cluster, "batch/v1", "Job", job, {"spec": {"suspend": suspended}})
