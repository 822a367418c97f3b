"""`flow-images deploy train`."""

import click

from k8s.deploy.apply_and_wait import ApplyOptions, apply_and_wait, check_more, model_name
from serving.console.grouped_help import GroupedCommand
from serving.console.option_fields import option, options_class
from serving.console.option_flags import option_flags
from serving.model_store.versions import HIGHEST_VERSION


@options_class
class DeployTrainOptions(ApplyOptions, group="Input"):
    """What a training Job is told otherwise than by the manifests; paths are as its pods see them."""

    labels: str | None = option("labels.csv, as the pods see it.", default=None, metavar="CSV")
    images: str | None = option("The folder of its images, as the pods see it.", default=None, metavar="FOLDER")
    hub_model: str | None = option(
        "TensorFlow Hub module: URL or folder.", default=None, metavar="URL|FOLDER", group="Model"
    )
    model_store: str | None = option(
        "Where models are published, as the pods see it.", default=None, metavar="FOLDER", group="Output"
    )
    name: str | None = option("The model's name.", default=None, metavar="NAME", parse=model_name, group="Output")
    version: int | None = option(
        "The version to publish.",
        default=None,
        least=1,
        most=HIGHEST_VERSION,
        default_words="the UTC seconds now",
        group="Output",
    )
    # As many as `train` itself takes.
    epochs: int | None = option("Passes over the images.", default=None, least=1, most=100_000, group="Training")


@click.command(
    cls=GroupedCommand,
    notes={"Pods": {"-- FLAGS": "Go to `flow-images train` as they are."}},
    examples=(
        "flow-images deploy train",
        "flow-images deploy train -k bucket-gs --labels gs://pets/labels.csv \\\n"
        "--images gs://pets/train --name dogs -- --min-accuracy=0.8",
    ),
)
@option_flags(DeployTrainOptions)
@click.argument("more", nargs=-1, callback=check_more, metavar="[-- FLAGS]")
def train(options: DeployTrainOptions, more: tuple[str, ...]) -> None:
    """Train a model and publish it as a new version."""
    from k8s.deploy import submit

    version = options.version or submit.utc_seconds()  # fixed now, so that a retried pod doesn't publish twice
    values = {
        "LABELS": options.labels,
        "IMAGES": options.images,
        "HUB_MODEL": options.hub_model,
        "MODEL_STORE": options.model_store,
        "MODEL_NAME": options.name,
        "EPOCHS": None if options.epochs is None else str(options.epochs),
        "VERSION": str(version),
    }
    objects = submit.train(options.folder, options.namespace, values, more)
    apply_and_wait(objects, options, job=f"train-{version}", again=f"--version={version}")
