"""`flow-images deploy …`: trains, serves and predicts on a Kubernetes cluster, from the manifests beside this file."""

import datetime
import re
import shlex
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import click

from k8s.deploy.ownership import PART_OF
from k8s.deploy.remains import Remains, explaining_remains
from k8s.lines import say
from serving.console.option_flags import Number

if TYPE_CHECKING:
    from k8s.deploy.cluster import Cluster, Object

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

    def namespace(_: click.Context, __: click.Parameter, name: str | None) -> str | None:
        if name and not _is_label(name, 63):
            raise click.BadParameter("expected up to 63 lower case letters, digits and '-'")
        return name

    for option in (
        click.option("--kubeconfig", help="The kubeconfig; by default as for kubectl."),
        click.option("--context", help="The kubeconfig's context; by default the current one."),
        click.option(
            "-n",
            "--namespace",
            callback=namespace,
            help="The namespace; by default the manifests' own, which is flow-images.",
        ),
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
        click.option("--timeout", type=Number(min=0), help="Seconds to wait at most."),
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
    if name is not None and not _is_label(name, 52):
        raise click.BadParameter("expected up to 52 lower case letters, digits and '-'")
    return name


def _is_label(name: str, most: int) -> bool:
    return len(name) <= most and bool(re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", name))


def _at_most(most: int, why: str) -> Callable[[click.Context, click.Parameter, int | None], int | None]:
    """A callback for a number that the cluster or the pods would refuse."""

    def check(_: click.Context, __: click.Parameter, number: int | None) -> int | None:
        if number is not None and number > most:
            raise click.BadParameter(f"{number} is more than {most}: {why}")
        return number

    return check


_version = _at_most(2**63 - 1, "no server can hold such a version")
_shards = _at_most(100_000, "a Job of Kubernetes can't have more pods")
_batch_size = _at_most(4096, "a request can't have more images")
_replicas = _at_most(10_000, "no cluster has room for so many servers")
_epochs = _at_most(100_000, "no training goes on so long")


def _more(_: click.Context, __: click.Parameter, words: tuple[str, ...]) -> tuple[str, ...]:
    if words and not words[0].startswith("-"):
        raise click.BadParameter(f"{words[0]!r} is not expected here; what goes to the pods' command begins with --")
    return words


class _Explained(click.Group):
    """Says of a command that is interrupted, or finds no cluster, what it leaves behind."""

    def invoke(self, ctx: click.Context) -> Any:
        ctx.obj = Remains()
        with explaining_remains(ctx.obj):
            return super().invoke(ctx)


@click.group(cls=_Explained)
def deploy() -> None:
    """Train, serve and predict on a Kubernetes cluster.

    The same manifests work without this command: kubectl apply -k. Exit codes: 0 done; 1 failed; 2 wrong usage;
    3 predicted, but with more rejected or failed images than allowed; 75 stopped after all retries, or the cluster
    gives no answer: the same command with the same --output goes on; 130 and 143 interrupted.
    """


@deploy.command()
@_submits
@click.option("--labels", help="labels.csv, as the pods see it.")
@click.option("--images", help="The folder of its images, as the pods see it.")
@click.option("--hub-model", help="TensorFlow Hub module: URL or folder.")
@click.option("--model-store", help="Where models are published, as the pods see it.")
@click.option("--name", "model_name", callback=_model_name, help="The model's name.")
@click.option("--epochs", type=click.IntRange(min=1), callback=_epochs, help="Passes over the images.")
@click.option(
    "--version",
    type=click.IntRange(min=1),
    callback=_version,
    help="The version to publish; by default the UTC seconds now.",
)
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
    from k8s.deploy import overlay, submit

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
    _send(objects, job=f"train-{version}", again=f"--version={version}", **common)


@deploy.command()
@_submits
@click.option("--model-name", callback=_model_name, help="The model's name; by default that of models.config.")
@click.option("--replicas", type=click.IntRange(min=0), callback=_replicas, help="How many servers.")
def serve(model_name: str | None, replicas: int | None, **common: Any) -> None:
    """Serve the newest version, and keep the one before it loaded."""
    _serve(version=None, model_name=model_name, replicas=replicas, **common)


@deploy.command()
@_submits
@click.option(
    "--version", type=click.IntRange(min=1), callback=_version, required=True, help="The version to go back to."
)
@click.option("--model-name", callback=_model_name, help="The model's name; by default that of models.config.")
def rollback(version: int, model_name: str | None, **common: Any) -> None:
    """Serve one version only, until the next `deploy serve`.

    Servers are replaced one by one; a version that can't be loaded replaces none.
    """
    _serve(version=version, model_name=model_name, replicas=None, **common)


@deploy.command()
@_submits
@click.option("--input", "listed_input", help="Folder, glob or list of images, as the pods see it.")
@click.option("--output", help="Folder for predictions.csv, as the pods see it. One that is unfinished is resumed.")
@click.option("--model-name", callback=_model_name, help="The model's name.")
@click.option("--server", help="HOST:PORT of a server elsewhere.")
@click.option("--wire", type=click.Choice(["float32", "uint8", "encoded"]), help="How images are sent.")
@click.option("--batch-size", type=click.IntRange(min=1), callback=_batch_size, help="Images in one request.")
@click.option("--shards", type=click.IntRange(min=1), callback=_shards, help="How many pods share the work.")
@click.option("--job-name", callback=_job_name, help="Name of the Job; by default predict- and the time.")
@click.argument("more", nargs=-1, callback=_more)
def predict(
    listed_input: str | None,
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
    """Predict a bucket or volume of images.

    MORE, after --, goes to `flow-images predict` as it is, e.g. -- --model-version=7 --max-rejected=10.
    """
    from k8s.deploy import overlay, submit

    name = job_name or f"predict-{datetime.datetime.now(datetime.UTC):%Y%m%d-%H%M%S}"
    options = {
        "INPUT": listed_input,
        "OUTPUT": output,
        "MODEL_NAME": model_name,
        "SERVER": server,
        "WIRE": wire,
        "BATCH_SIZE": None if batch_size is None else str(batch_size),
    }
    folder = overlay.folder_of(common["manifests"])
    objects = submit.predict(folder, common["namespace"], name, options, shards, more)
    _send(objects, job=name, again=f"--job-name={name}", **common)


@deploy.command()
@_target
def status(**target: Any) -> None:
    """Show servers and Jobs, and what is in their way."""
    cluster = _connect(**target)
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
        if state == "running" and (refused := explain.refused_pods(cluster.events_of(job))):
            yield f"  {refused}"
    for pod in cluster.all("v1", "Pod", label_selector=PART_OF):
        if problem := explain.pod_problem(pod, cluster.events_of(pod)):
            yield f"  {problem}"


@deploy.command()
@_target
@click.argument("job", callback=_job_name)
def suspend(job: str, **target: Any) -> None:
    """Stop a Job's pods, and keep what they have done."""
    _set_suspended(job, True, **target)
    say(f"job/{job} suspended; go on with: flow-images deploy resume{_flags(**target)} {job}")


@deploy.command()
@_target
@click.argument("job", callback=_job_name)
def resume(job: str, **target: Any) -> None:
    """Let a suspended Job go on."""
    _set_suspended(job, False, **target)
    say(f"job/{job} goes on")


def _set_suspended(job: str, suspended: bool, **target: Any) -> None:
    from k8s.deploy import changes

    cluster = _connect(**target)
    _remains().words = f"`flow-images deploy status{_flags(**target)}` says whether job/{job} is suspended"
    changes.patch(cluster, "batch/v1", "Job", job, {"spec": {"suspend": suspended}})


@deploy.command()
@_target
@click.option("--all", "everything", is_flag=True, help="Also the servers and the Jobs that still run.")
@click.option("--volumes", is_flag=True, help="Also the volumes: images, models and output are lost.")
def cleanup(everything: bool, volumes: bool, **target: Any) -> None:
    """Delete finished Jobs, or all that was deployed.

    When no server, Job or pod of ours is left, what they needed goes, too: policies, options and accounts.
    """
    from k8s.deploy import changes, explain
    from k8s.deploy.errors import Forbidden

    cluster = _connect(**target)
    jobs = _ours(cluster, "batch/v1", "Job")
    ended = [job for job in jobs if everything or explain.job_state(job)[0] in ("complete", "failed")]
    gone = [("batch/v1", "Job", job) for job in ended]
    if everything or len(ended) == len(jobs):
        try:
            found = {(version, kind): _ours(cluster, version, kind) for version, kind in _DEPLOYED}
        except Forbidden:  # Who may see Jobs alone cleans up those.
            if everything:
                raise
            found = {}
        if everything or not any(found.get(kind) for kind in (("apps/v1", "Deployment"), ("v1", "Pod"))):
            gone += [(version, kind, obj) for (version, kind), objects in found.items() for obj in objects]
    if volumes:
        claim = ("v1", "PersistentVolumeClaim")
        gone += [(*claim, obj) for obj in _ours(cluster, *claim)]
    changes.check_ours(cluster, [(kind, obj) for _, kind, obj in gone])
    for count, (api_version, kind, obj) in enumerate(gone):
        _remains().words = f"{count} of {len(gone)} objects were deleted; the same command goes on"
        changes.delete(cluster, api_version, kind, obj)
        say(f"{kind.lower()}/{obj['metadata']['name']} deleted")
    if not gone:
        say(f"nothing to delete in namespace {cluster.namespace}")


def _ours(cluster: "Cluster", api_version: str, kind: str) -> "list[Object]":
    """What carries our label, and has no owner with which it goes."""
    found = cluster.all(api_version, kind, label_selector=PART_OF)
    return [obj for obj in found if not obj["metadata"].get("ownerReferences")]


def _connect(*, context: str | None, kubeconfig: str | None, namespace: str | None) -> "Cluster":
    from k8s.deploy.cluster import Cluster

    return Cluster(context=context, kubeconfig=kubeconfig, namespace=namespace or "flow-images")


def _flags(**target: str | None) -> str:
    """The options of `_target` as they were given, for a command that somebody is to type."""
    return "".join(f" --{name}={shlex.quote(value)}" for name, value in target.items() if value)


def _remains() -> Remains:
    remains = click.get_current_context().find_object(Remains)
    assert remains is not None, "deploy's own group sets it"
    return remains


def _serve(*, version: int | None, model_name: str | None, replicas: int | None, **common: Any) -> None:
    from k8s.deploy import overlay, submit

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
    again: str | None = None,
    manifests: str,
    namespace: str | None,
    **target: Any,
) -> None:
    """Applies the objects, and waits for the Job or the Deployment among them.

    `again` is the option by which the same command means the same Job.
    """
    if dry_run == "client":
        import yaml

        click.echo(yaml.safe_dump_all(objects), nl=False)
        return
    from k8s.deploy import changes
    from k8s.deploy.follow import Follower

    own = next((o["metadata"]["namespace"] for o in objects if "namespace" in o["metadata"]), None)
    cluster = _connect(**target, namespace=namespace or own)
    flags = _flags(namespace=cluster.namespace, **target)
    what = f"job/{job}" if job else f"deployment/{deployment}"
    steps = changes.plan(cluster, objects)
    if dry_run == "none":
        _remains().words = (
            f"what was applied so far stays in namespace {cluster.namespace}, and {what} may be among it; "
            f"`flow-images deploy status{flags}` shows it, `flow-images deploy cleanup{flags}` removes it once "
            f"nothing runs, the same command{f' with {again}' if again else ''} goes on"
        )
    for line in changes.send(cluster, steps, dry_run=dry_run == "server"):
        say(line)
    if dry_run == "server":
        return
    _remains().words = f"{what} goes on in namespace {cluster.namespace}; " + (
        f"the same command with {again} waits on, `flow-images deploy suspend{flags} {job}` stops it, "
        f"`kubectl -n {cluster.namespace} delete job {job}` removes it"
        if job
        else f"the same command waits on, `flow-images deploy cleanup --all{flags}` removes all that was deployed"
    )
    if not wait:
        return
    with Follower(cluster, say, timeout_s=timeout) as follower:
        if job:
            follower.job(job)
        if deployment:
            follower.rollout(deployment)
