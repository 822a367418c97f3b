"""`flow-images deploy …`: trains, serves and predicts on a Kubernetes cluster, from the manifests beside this file."""

import datetime
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from k8s.cluster import Cluster, Object

PART_OF = "app.kubernetes.io/part-of=flow-images"
"""Selects what is ours, whoever applied it."""
_DEPLOYED = [
    ("autoscaling/v2", "HorizontalPodAutoscaler"),
    ("apps/v1", "Deployment"),
    ("policy/v1", "PodDisruptionBudget"),
    ("v1", "Service"),
    ("v1", "Pod"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
    ("v1", "ConfigMap"),
    ("v1", "ServiceAccount"),
]

_F = TypeVar("_F", bound=Callable[..., Any])


def _target(command: _F) -> _F:
    """The options that say which cluster, as kubectl spells them."""
    for option in (
        click.option("--kubeconfig", help="The kubeconfig; by default as for kubectl."),
        click.option("--context", help="The kubeconfig's context; by default the current one."),
        click.option("-n", "--namespace", help="The namespace; by default the manifests' own, which is flow-images."),
    ):
        command = option(command)
    return command


def _submits(command: _F) -> _F:
    """The options of everything that sends manifests."""
    for option in (
        click.option(
            "--dry-run",
            type=click.Choice(["none", "client", "server"]),
            default="none",
            help="client: print the manifests. server: let the cluster check them, and change nothing.",
        ),
        click.option("--wait/--no-wait", default=True, help="Wait for the end, and tell what happens until then."),
        click.option("--timeout", type=click.FloatRange(min=0), help="Seconds to wait at most."),
        click.option(
            "-k",
            "--manifests",
            default="local",
            show_default=True,
            help="local, gpu, bucket-gs, bucket-s3, or a folder of your own with a kustomization.yaml.",
        ),
    ):
        command = option(command)
    return _target(command)


def _model_name(_: click.Context, __: click.Parameter, name: str | None) -> str | None:
    if name is not None and not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name, re.ASCII):
        raise click.BadParameter("expected letters, digits, '.', '-' and '_', as it becomes part of URLs")
    return name


def _job_name(_: click.Context, __: click.Parameter, name: str | None) -> str | None:
    # Pods add their index and more to it, and all must fit into a label of 63 characters.
    if name is not None and not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,50}[a-z0-9])?", name):
        raise click.BadParameter("expected up to 52 lower case letters, digits and '-'")
    return name


def _more(_: click.Context, __: click.Parameter, words: tuple[str, ...]) -> tuple[str, ...]:
    if words and not words[0].startswith("-"):
        raise click.BadParameter(f"{words[0]!r} is not expected here; what goes to the pods' command begins with --")
    return words


@click.group()
def deploy() -> None:
    """Train, serve and predict on a Kubernetes cluster.

    The same manifests work without this command: kubectl apply -k. Exit codes: 0 done; 1 failed; 2 wrong usage;
    3 predicted, but with more rejected or failed pictures than allowed; 75 stopped after all retries: the same command
    with the same --output goes on.
    """


@deploy.command()
@_submits
@click.option("--labels", help="labels.csv, as the pods see it.")
@click.option("--images", help="The folder of its pictures, as the pods see it.")
@click.option("--hub-model", help="TensorFlow Hub module: URL or folder.")
@click.option("--model-store", help="Where models are published, as the pods see it.")
@click.option("--name", "model_name", callback=_model_name, help="The model's name.")
@click.option("--epochs", type=click.IntRange(min=1), help="Passes over the pictures.")
@click.option("--version", type=click.IntRange(min=1), help="The version to publish; by default the UTC seconds now.")
@click.argument("more", nargs=-1, callback=_more)
def train(
    labels: str | None,
    images: str | None,
    hub_model: str | None,
    model_store: str | None,
    model_name: str | None,
    epochs: int | None,
    version: int | None,
    more: tuple[str, ...],
    **common: Any,
) -> None:
    """Train a model and publish it as a new version.

    MORE, after --, goes to `flow-images train` as it is.
    """
    from k8s import overlay, submit

    version = version or submit.utc_seconds()  # Fixed now, so that a retried pod doesn't publish twice.
    options = {
        "LABELS": labels,
        "IMAGES": images,
        "HUB_MODEL": hub_model,
        "MODEL_STORE": model_store,
        "MODEL_NAME": model_name,
        "EPOCHS": None if epochs is None else str(epochs),
        "VERSION": str(version),
    }
    objects = submit.train(overlay.folder_of(common["manifests"]), common["namespace"], options, more)
    _send(objects, job=f"train-{version}", **common)


@deploy.command()
@_submits
@click.option("--model-name", callback=_model_name, help="The model's name; by default that of models.config.")
@click.option("--replicas", type=click.IntRange(min=0), help="How many servers.")
def serve(model_name: str | None, replicas: int | None, **common: Any) -> None:
    """Serve the newest version, and keep the one before it loaded."""
    _serve(version=None, model_name=model_name, replicas=replicas, **common)


@deploy.command()
@_submits
@click.option("--version", type=click.IntRange(min=1), required=True, help="The version to go back to.")
@click.option("--model-name", callback=_model_name, help="The model's name; by default that of models.config.")
def rollback(version: int, model_name: str | None, **common: Any) -> None:
    """Serve one version only, until the next `deploy serve`.

    Servers are replaced one by one; a version that can't be loaded replaces none.
    """
    _serve(version=version, model_name=model_name, replicas=None, **common)


@deploy.command()
@_submits
@click.option("--input", "input_", help="Folder, glob or list of pictures, as the pods see it.")
@click.option("--output", help="Folder for predictions.csv, as the pods see it. One that is unfinished is resumed.")
@click.option("--model-name", callback=_model_name, help="The model's name.")
@click.option("--server", help="HOST:PORT of a server elsewhere.")
@click.option("--wire", type=click.Choice(["float32", "uint8", "encoded"]), help="How pictures are sent.")
@click.option("--batch-size", type=click.IntRange(min=1), help="Pictures in one request.")
@click.option("--shards", type=click.IntRange(min=1), help="How many pods share the work.")
@click.option("--job-name", callback=_job_name, help="Name of the Job; by default predict- and the time.")
@click.argument("more", nargs=-1, callback=_more)
def predict(
    input_: str | None,
    output: str | None,
    model_name: str | None,
    server: str | None,
    wire: str | None,
    batch_size: int | None,
    shards: int | None,
    job_name: str | None,
    more: tuple[str, ...],
    **common: Any,
) -> None:
    """Predict a bucket or volume of pictures.

    MORE, after --, goes to `flow-images predict` as it is, e.g. -- --model-version=7 --max-rejected=10.
    """
    from k8s import overlay, submit

    name = job_name or f"predict-{datetime.datetime.now(datetime.UTC):%Y%m%d-%H%M%S}"
    options = {
        "INPUT": input_,
        "OUTPUT": output,
        "MODEL_NAME": model_name,
        "SERVER": server,
        "WIRE": wire,
        "BATCH_SIZE": None if batch_size is None else str(batch_size),
    }
    folder = overlay.folder_of(common["manifests"])
    objects = submit.predict(folder, common["namespace"], name, options, shards, more)
    _send(objects, job=name, **common)


@deploy.command()
@_target
def status(**target: Any) -> None:
    """Show servers and Jobs, and what is in their way."""
    cluster = _connect(**target)
    lines = list(_overview(cluster))
    click.echo("\n".join(lines or [f"nothing of flow-images is in namespace {cluster.namespace}"]))


def _overview(cluster: "Cluster") -> Iterator[str]:
    from k8s import explain

    for deployment in cluster.all("apps/v1", "Deployment", label_selector=PART_OF):
        yield f"deployment/{deployment['metadata']['name']}: {explain.rollout_state(deployment)[1]}"
        if stuck := explain.rollout_problem(deployment):
            yield f"  {stuck}"
    for job in cluster.all("batch/v1", "Job", label_selector=PART_OF):
        state, words = explain.job_state(job)
        yield f"job/{job['metadata']['name']} {state}: {words}"
        if state == "running" and (refused := explain.refused_pods(cluster.events_of(job))):
            yield f"  {refused}"
    for pod in cluster.all("v1", "Pod", label_selector=PART_OF):
        if problem := explain.pod_problem(pod, cluster.events_of(pod)):
            yield f"  {problem}"


@deploy.command()
@_target
@click.argument("job")
def suspend(job: str, **target: Any) -> None:
    """Stop a Job's pods, and keep what they have done."""
    _connect(**target).patch("batch/v1", "Job", job, {"spec": {"suspend": True}})
    click.echo(f"job/{job} suspended; go on with: flow-images deploy resume {job}")


@deploy.command()
@_target
@click.argument("job")
def resume(job: str, **target: Any) -> None:
    """Let a suspended Job go on."""
    _connect(**target).patch("batch/v1", "Job", job, {"spec": {"suspend": False}})
    click.echo(f"job/{job} goes on")


@deploy.command()
@_target
@click.option("--all", "everything", is_flag=True, help="Also the servers and the Jobs that still run.")
@click.option("--volumes", is_flag=True, help="Also the volumes: pictures, models and output are lost.")
def cleanup(everything: bool, volumes: bool, **target: Any) -> None:
    """Delete finished Jobs, or all that was deployed."""
    cluster = _connect(**target)
    wanted = (_DEPLOYED if everything else []) + ([("v1", "PersistentVolumeClaim")] if volumes else [])
    gone = [("batch/v1", "Job", name) for name in _jobs(cluster, unfinished=everything)]
    for api_version, kind in wanted:
        found = cluster.all(api_version, kind, label_selector=PART_OF)
        # What another object owns goes with it.
        gone += [(api_version, kind, o["metadata"]["name"]) for o in found if not o["metadata"].get("ownerReferences")]
    for api_version, kind, name in gone:
        cluster.delete(api_version, kind, name)
        click.echo(f"{kind.lower()}/{name} deleted")
    if not gone:
        click.echo(f"nothing to delete in namespace {cluster.namespace}")


def _jobs(cluster: "Cluster", *, unfinished: bool) -> list[str]:
    from k8s import explain

    jobs = cluster.all("batch/v1", "Job", label_selector=PART_OF)
    return [
        job["metadata"]["name"] for job in jobs if unfinished or explain.job_state(job)[0] in ("complete", "failed")
    ]


def _connect(*, context: str | None, kubeconfig: str | None, namespace: str | None) -> "Cluster":
    from k8s.cluster import Cluster

    return Cluster(context=context, kubeconfig=kubeconfig, namespace=namespace or "flow-images")


def _serve(*, version: int | None, model_name: str | None, replicas: int | None, **common: Any) -> None:
    from k8s import overlay, submit

    folder = overlay.folder_of(common["manifests"])
    objects = submit.serve(folder, common["namespace"], version=version, model_name=model_name, replicas=replicas)
    _send(objects, deployment="serving", **common)


def _send(
    objects: "list[Object]",
    *,
    dry_run: str,
    wait: bool,
    timeout: float | None,
    job: str | None = None,
    deployment: str | None = None,
    manifests: str,
    namespace: str | None,
    **target: Any,
) -> None:
    """Applies the objects, and waits for the Job or the Deployment among them."""
    if dry_run == "client":
        import yaml

        click.echo(yaml.safe_dump_all(objects), nl=False)
        return
    from k8s.follow import Follower

    own = next((o["metadata"]["namespace"] for o in objects if "namespace" in o["metadata"]), None)
    cluster = _connect(**target, namespace=namespace or own)
    for line in cluster.apply(objects, dry_run=dry_run == "server"):
        click.echo(line)
    if dry_run == "server" or not wait:
        return
    follower = Follower(cluster, click.echo, timeout_s=timeout)
    try:
        if job:
            follower.job(job)
        if deployment:
            follower.rollout(deployment)
    except KeyboardInterrupt:
        click.echo("no longer waiting; what runs in the cluster goes on", err=True)
        raise
