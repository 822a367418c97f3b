"""`flow-images deploy …`: trains, serves and predicts on a Kubernetes cluster. Each of its commands has a module."""

from typing import Any

import click

from k8s.deploy.cleanup_command import cleanup
from k8s.deploy.left_behind import Remains, explaining_remains
from k8s.deploy.predict_command import predict
from k8s.deploy.resume_command import resume
from k8s.deploy.rollback_command import rollback
from k8s.deploy.serve_command import serve
from k8s.deploy.status_command import status
from k8s.deploy.suspend_command import suspend
from k8s.deploy.train_command import train
from serving.console.grouped_help import GroupOfCommands


class _Explained(GroupOfCommands):
    """Says of a command that is interrupted, or finds no cluster, what it leaves behind."""

    def invoke(self, ctx: click.Context) -> Any:
        ctx.obj = Remains()
        with explaining_remains(ctx.obj):
            return super().invoke(ctx)


@click.group(
    cls=_Explained,
    sections={
        "Run": ("train", "serve", "predict"),
        "Watch and change": ("status", "suspend", "resume", "rollback", "cleanup"),
    },
)
def deploy() -> None:
    """Train, serve and predict on a Kubernetes cluster.

    The same manifests work without this command: kubectl apply -k. Exit codes: 0 done; 1 failed; 2 wrong usage;
    3 predicted, but with more rejected or failed images than allowed; 75 stopped after all retries, or the cluster
    gives no answer: the same command with the same --output continues; 130 and 143 interrupted.
    """


for _command in (train, serve, predict, status, suspend, resume, rollback, cleanup):
    deploy.add_command(_command)
