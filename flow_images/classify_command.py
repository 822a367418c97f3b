"""`flow-images classify`: its options, and the call that shows the top classes of a few images."""

from collections.abc import Sequence

import click

from serving.client.client_options import AnswerOptions, ConnectionOptions
from serving.client.model_overrides import ModelOverrides
from serving.client.server_choice import Connection
from serving.console.grouped_help import GroupedCommand
from serving.console.option_fields import options_class
from serving.console.option_flags import option_flags
from serving.images.limits import ImageLimits
from serving.text.label_file import check_class_names


@options_class
class ClassifyOptions(ConnectionOptions, AnswerOptions, ImageLimits, ModelOverrides):
    """Which model to ask about a few images, and what to show of its answers."""


@click.command(
    cls=GroupedCommand,
    options_metavar="(--server HOST:PORT | --model STORE/NAME) [OPTIONS]",
    examples=(
        "flow-images classify rex.jpg --model models/dogs",
        "flow-images classify *.jpg --server localhost:8500 --model-name dogs --top-k 1",
    ),
)
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@option_flags(ClassifyOptions)
def classify(options: ClassifyOptions, images: Sequence[str]) -> None:
    """Show the top classes of one or a few images.

    Exits with 1 if one of them can't be classified; the others are shown all the same.
    """
    connection = Connection(options)
    if options.labels is not None:
        check_class_names(options.labels)
    from flow_images.classify_table import print_table
    from flow_images.client import Client
    from flow_images.image_classifier import NOT_FINITE
    from serving.client.discovery import choose_wire
    from serving.images.wire import WIRES

    wires = (options.wire,) if options.wire else WIRES
    with (
        connection.connect() as endpoint,
        Client(
            endpoint.address,
            endpoint.model_name,
            version=endpoint.version,
            tls=endpoint.tls,
            deadline_s=options.deadline_s,
            patience_s=options.patience_s,
            wire=wires,
            top_k=options.top_k,
            overrides=options.part(ModelOverrides),
            limits=options.part(ImageLimits),
        ) as client,
    ):
        results = client.classify(images)
        wire = choose_wire(client.contract(), wires)
    print_table(results, f"{endpoint.model_name}, wire {wire}")
    if not all(result.ok or result.reason == NOT_FINITE for result in results):  # which a warning was about
        raise click.exceptions.Exit(1)
