"""`flow-images classify`."""

from collections.abc import Sequence
from typing import Any

import click

from serving.connection import Connection
from serving.connection_flags import MAX_TOP_K, WIRE_NAMES, model_override_flags, picture_limit_flags, server_flags


@click.command()
@click.argument("pictures", nargs=-1, required=True, metavar="PICTURE...")
@server_flags
@click.option("--top-k", type=click.IntRange(1, MAX_TOP_K), default=5, show_default=True, help="Classes to show.")
@click.option("--wire", type=click.Choice(WIRE_NAMES), help="How pictures travel. [default: float32]")
@picture_limit_flags
@model_override_flags
def classify(
    pictures: Sequence[str], connection: Connection, top_k: int, wire: Any, max_image_bytes: int,
    max_image_pixels: int, **plain: Any,
) -> None:  # fmt: skip
    """Show the top classes of one or a few pictures.

    Exits with 1 if one of them can't be classified; the others are shown all the same.
    """
    from serving.classify import classify_files
    from serving.discovery import ModelOverrides
    from serving.images.limits import PictureLimits

    limits = PictureLimits(max_bytes=max_image_bytes, max_pixels=max_image_pixels)
    with connection.connect() as endpoint:
        rejected = classify_files(pictures, endpoint, connection.retry, ModelOverrides(**plain), limits, wire, top_k)
    if rejected:
        raise click.exceptions.Exit(1)
