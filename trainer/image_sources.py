"""Reads the labelled images that options name, on a disk or in a bucket, and checks them."""

from typing import Protocol

from serving.console.terminal import printable
from serving.errors import UsageError
from trainer.images.bucket_copies import BucketCopies
from trainer.images.check import CheckedImages, check_images
from trainer.images.labelled_images import read_folder, read_labels, unlabelled
from trainer.images.problems import Problem
from trainer.progress import Progress, reporting


class ImageSources(Protocol):
    """Options that name labelled images."""

    @property
    def labels(self) -> str | None:
        """A CSV."""

    @property
    def images(self) -> str | None:
        """The folder of the images that it names."""

    @property
    def folder(self) -> str | None:
        """Instead: a folder with one folder of images a class."""

    @property
    def skip_bad(self) -> bool:
        """Whether images that can't be used are left out."""


def check_sources(options: ImageSources) -> None:
    """Raises UsageError where options name no images, or contradict each other."""
    if options.labels and options.folder:
        raise UsageError("give `labels` or `folder`, not both")
    if not options.labels and not options.folder:
        raise UsageError("say where the images are: `labels` CSV (with `images` FOLDER), or `folder` FOLDER")
    if options.images and not options.labels:
        raise UsageError("`images` goes with `labels`; a folder a class is `folder` alone")


def read_sources(
    options: ImageSources, copies: BucketCopies, progress: Progress, *, for_training: bool = True
) -> CheckedImages:
    """Copies what is in a bucket, reads and checks it, and notes what a user should know.

    Args:
      options: name the images.
      copies: of a bucket's files.
      progress: is told of each image.
      for_training: see `check_images`.

    Raises:
      UsageError: images can't be used, and they are not to be skipped.
    """

    def note(text: str) -> None:
        progress.note(copies.named(text))

    problems: list[Problem] = []
    labels, images, folder = copies.sources(options.labels, options.images, options.folder)
    with reporting("reading and checking images", note):
        found = (
            read_labels(labels, images, note, copies.local, problems.append)
            if labels
            else read_folder(folder or "", note, problems.append, for_training=for_training)
        )
        extra = unlabelled(found, images) if images else []
        checked = check_images(
            found, problems=problems, unlabelled=extra, skip_bad=options.skip_bad, for_training=for_training,
            progress=progress,
        )  # fmt: skip
    card = checked.card
    for count, what in (
        (len(card.left_out), "can't be used and are left out; the report names them"),
        (len(card.copies), "are copies of others and are left out"),
        (len(card.wrong_endings), "are of another format than their name ends with, and are used"),
    ):
        if count:
            note(f"{count:,} of {len(found):,} images {what}")
    lost = sorted({image.label for image in found} - {image.label for image in checked.images})
    if lost:
        names = ", ".join(printable(repr(label)) for label in lost[:3]) + (", …" if len(lost) > 3 else "")
        note(f"WARNING: {len(lost):,} classes have too few images that can be used, and are left out: {names}")
    if card.near_duplicates:
        across = f"; {len(card.alike_across_labels):,} of them have two labels" if card.alike_across_labels else ""
        note(f"{len(card.near_duplicates):,} groups of images look alike{across}: the report shows them")
    if card.unlabelled and images:
        names = ", ".join(map(printable, card.unlabelled[:3])) + (", …" if len(card.unlabelled) > 3 else "")
        note(f"no label names {len(card.unlabelled)} of the files in {printable(images)}; they are left out: {names}")
    return checked
