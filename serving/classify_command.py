"""`flow-images classify`."""

from collections.abc import Sequence

import click

from serving.connection import Connection
from serving.console.option_flags import option_flags
from serving.images.limits import PictureLimits
from serving.model_overrides import ModelOverrides
from serving.option_fields import options_class
from serving.options import AnswerOptions, ConnectionOptions


@options_class
class ClassifyOptions(ConnectionOptions, AnswerOptions, PictureLimits, ModelOverrides):
    """All that `flow-images classify` is told, but for the images."""


@click.command()
@click.argument("pictures", nargs=-1, required=True, metavar="PICTURE...")
@option_flags(ClassifyOptions)
def classify(options: ClassifyOptions, pictures: Sequence[str]) -> None:
    """Show the top classes of one or a few pictures.

    Exits with 1 if one of them can't be classified; the others are shown all the same.
    """
    from serving.classify import classify_files

    with Connection(options).connect() as endpoint:
        rejected = classify_files(
            pictures,
            endpoint,
            options.retry,
            options.part(ModelOverrides),
            options.part(PictureLimits),
            options.wire,
            options.top_k,
        )
    if rejected:
        raise click.exceptions.Exit(1)
