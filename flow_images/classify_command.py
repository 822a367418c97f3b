"""`flow-images classify`: its options, and the call that shows the top classes of a few images."""

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from serving.client.client_options import AnswerOptions, ConnectionOptions
from serving.client.model_overrides import ModelOverrides
from serving.client.server_choice import Connection
from serving.console.flags_in_messages import with_flags
from serving.console.grouped_help import GroupedCommand
from serving.console.option_fields import option, options_class
from serving.console.option_flags import option_flags
from serving.console.terminal import printable
from serving.images.limits import ImageLimits
from serving.text.label_file import check_class_names

if TYPE_CHECKING:
    from flow_images.classification import Classification


@options_class
class ClassifyOptions(ConnectionOptions, AnswerOptions, ImageLimits, ModelOverrides, group="Output"):
    """Which model to ask about a few images, and what to show of its answers."""

    as_json: bool = option(
        "Print JSON Lines: an object an image.", more="Its keys are in docs/clients.md.", default=False, flag="--json"
    )


@click.command(
    cls=GroupedCommand,
    options_metavar="(--server HOST:PORT | --model STORE/NAME) [OPTIONS]",
    examples=(
        "flow-images classify rex.jpg --model models/dogs",
        "flow-images classify *.jpg --model models/dogs --top-k 1 | sort -k 2",
        "flow-images classify *.jpg --model models/dogs --json > dogs.jsonl",
    ),
)
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@option_flags(ClassifyOptions)
def classify(options: ClassifyOptions, images: Sequence[str]) -> None:
    """Show the top classes of one or a few images.

    On a terminal as a table; piped, a line an image: its path, label and score, then further labels and scores, with
    tabs between. An image that can't be classified has its reason in place of those, and the command ends with 1.
    """
    connection = Connection(options)
    if options.labels is not None:
        check_class_names(options.labels)
    from flow_images.client import Client
    from flow_images.image_classifier import CLIENT_WIRES, NOT_FINITE
    from serving.client.discovery import choose_wire

    wires = CLIENT_WIRES if options.wire == "auto" else (options.wire,)
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
    if options.as_json:
        _print_json(results)
    elif sys.stdout.isatty():
        from flow_images.classify_table import print_table

        print_table(results, f"{endpoint.model_name}, wire {wire}")
    else:
        _print_lines(results)
    if not all(result.ok or result.reason == NOT_FINITE for result in results):  # which a warning was about
        raise click.exceptions.Exit(1)


def _print_lines(results: "Sequence[Classification]") -> None:
    """A line an image, for `cut`, `sort` and their like: no path is folded or cut, and none has a tab or line end."""
    from serving.client.scores import format_score

    for result in results:
        answer = [text for label, score in result.top for text in (label, format_score(score))]
        cells = [str(result.image), *(answer or ["", "", result.reason, with_flags(result.message)])]
        click.echo("\t".join(map(printable, cells)))


def _print_json(results: "Sequence[Classification]") -> None:
    """In ASCII, so that no name acts on a terminal, and one that is not UTF-8 can be written at all."""
    for result in results:
        click.echo(json.dumps(result.as_dict() | {"message": with_flags(result.message)}))
