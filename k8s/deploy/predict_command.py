"""`flow-images deploy predict`."""

import datetime

import click

from k8s.deploy.apply_and_wait import ApplyOptions, apply_and_wait, check_more, model_name
from k8s.deploy.cluster_options import job_name
from serving.console.grouped_help import GroupedCommand
from serving.console.option_fields import option, options_class
from serving.console.option_flags import option_flags
from serving.images.wire import Wire


@options_class
class DeployPredictOptions(ApplyOptions, group="Speed"):
    """What a prediction Job is told otherwise than by the manifests; paths are as its pods see them."""

    listed_input: str | None = option(
        "Folder, glob or list of images, as the pods see it.",
        default=None,
        flag="--input",
        metavar="PATH",
        group="Input",
    )
    output: str | None = option(
        "Folder for predictions.csv, as the pods see it. One that is unfinished is resumed.",
        default=None,
        metavar="FOLDER",
        group="Output",
    )
    job_name: str | None = option(
        "Name of the Job.",
        default=None,
        metavar="NAME",
        parse=job_name,
        default_words="predict- and the time",
        group="Output",
    )
    model_name: str | None = option("The model's name.", default=None, metavar="NAME", parse=model_name, group="Model")
    server: str | None = option("A server elsewhere.", default=None, metavar="HOST:PORT", group="Model")
    wire: Wire | None = option("How images are sent.", default=None)
    # The bounds are those of `predict` itself.
    batch_size: int | None = option("Images in one request.", default=None, least=1, most=4096)
    shards: int | None = option(
        "How many pods, or workers of a Dask cluster, share the work.", default=None, least=1, most=100_000
    )


@click.command(
    cls=GroupedCommand,
    notes={"Pods": {"-- FLAGS": "Go to `flow-images predict` as they are, such as -- --model-version=7."}},
    examples=(
        "flow-images deploy predict",
        "flow-images deploy predict -k bucket-gs --input gs://pets/new \\\n"
        "--output gs://pets/out --shards 16 -- --max-rejected=100",
    ),
)
@option_flags(DeployPredictOptions)
@click.argument("more", nargs=-1, callback=check_more, metavar="[-- FLAGS]")
def predict(options: DeployPredictOptions, more: tuple[str, ...]) -> None:
    """Predict a bucket or volume of images."""
    from k8s.deploy import submit

    name = options.job_name or f"predict-{datetime.datetime.now(datetime.UTC):%Y%m%d-%H%M%S}"
    values = {
        "INPUT": options.listed_input,
        "OUTPUT": options.output,
        "MODEL_NAME": options.model_name,
        "SERVER": options.server,
        "WIRE": options.wire,
        "BATCH_SIZE": None if options.batch_size is None else str(options.batch_size),
    }
    objects = submit.predict(options.folder, options.namespace, name, values, options.shards, more)
    apply_and_wait(objects, options, job=name, again=f"--job-name={name}")
