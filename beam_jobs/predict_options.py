"""What a user decides about a prediction run. Nothing heavy is imported, as --help is made of it."""

import dataclasses
import re
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from beam_jobs.memory import Allowance
from serving.client.client_options import AnswerOptions, ConnectionOptions
from serving.client.model_overrides import ModelOverrides
from serving.console.option_fields import Options, option, option_fields, options_class
from serving.errors import UsageError
from serving.images.facts import Fact
from serving.images.limits import ImageLimits
from serving.text.sizes import format_byte_size, parse_byte_size

MAX_SHARDS = 100_000
"""An Indexed Job of Kubernetes may have this many pods."""


class Shard(NamedTuple):
    """Share `number` of `of`, from 0: the chunks k with k mod of = number."""

    number: int = 0
    of: int = 1

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """`0/4`.

        Raises:
          ValueError: it has another form.
        """
        found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
        if not found:
            raise ValueError(f"{text!r}: expected I/N, such as 0/4")
        return cls(int(found[1]), int(found[2]))


class RowLimit(NamedTuple):
    """How many of all rows: a count, or a share."""

    rows: int | None
    """None if it is a share."""
    share: float
    text: str

    def __str__(self) -> str:
        return self.text

    @classmethod
    def parse(cls, text: str) -> "RowLimit":
        """`20`, `2%` or `0.02`.

        Raises:
          ValueError: it is none of them.
        """
        if re.fullmatch(r"[0-9]{1,18}", text):
            return cls(int(text), 0.0, text)
        if re.fullmatch(r"([0-9]+\.?[0-9]*|\.[0-9]+)%?", text):
            share = float(text.rstrip("%")) / (100 if text.endswith("%") else 1)
            if share <= 1:
                return cls(None, share, text)
        raise ValueError(f"{text!r} is neither a count (20) nor a share up to all (2% or 0.02)")

    def allows(self, number: int, of: int) -> bool:
        """Is a number of rows within the limit?"""
        return number <= (self.share * of if self.rows is None else self.rows)


@options_class
class RejectionLimits(Options, group="Limits"):
    """How many images may be missing in a complete result."""

    max_rejected: RowLimit = option(
        "More rejected images than this end with exit code 3.",
        more="By default half: a bucket has a few broken images; where most are broken, the wrong folder was named.",
        default=RowLimit.parse("50%"),
        metavar="N|SHARE",
        parse=RowLimit.parse,
    )
    max_failed: RowLimit = option(
        "More failed images than this end with exit code 3; --retry-failed asks for them again.",
        default=RowLimit.parse("0"),
        metavar="N|SHARE",
        parse=RowLimit.parse,
    )


@options_class
class ProgressOptions(Options, group="Output"):
    """What the command shows while it runs."""

    quiet: bool = option("Show no progress; warnings and the result are shown.", default=False)


@options_class
class PageOptions(Options, group="Output"):
    """Whether a page is written about the run."""

    report: bool = option(
        "Write report.html, too, once the run is complete.",
        more="As `flow-images report` does, later and for any run. Some images are read again for it. Where it can't "
        "be written, that is said, and the run is as complete as without it.",
        default=False,
    )


Format = Literal["csv", "jsonl", "parquet", "kaggle"]


@options_class
class OutputOptions(Options, group="Output"):
    """What the files of predictions look like. All are made of the parts, so none of it needs a new run."""

    format: tuple[Format, ...] | None = option(
        "csv, jsonl, parquet or kaggle (a submission); several with commas between them.",
        more="A new run writes csv; one that is continued or merged again, what it wrote before. kaggle has an id "
        "and a column per class; beside csv it is submission.csv.",
        default=None,
        metavar="FORM,…",
        default_words="csv, or what the run has",
    )
    threshold: float | None = option(
        "An answer with a lower score gets the label unknown; 0 for none.",
        more="The model's own label and score are in columns of their own then. It may be changed at any time, by "
        "`merge` or the same command: no image is asked about again.",
        default=None,
        least=0,
        most=1,
        default_words="the run's, or at first the model's, if any",
    )


@options_class
class MergeOptions(RejectionLimits, PageOptions, OutputOptions, group="Output"):
    """The options of `flow-images merge`."""

    output: str = option("The run's output folder.", metavar="FOLDER")


@options_class
class Throughput(Options, group="Speed"):
    """How much a worker does at once."""

    batch_size: int = option("Images a request.", default=32, least=1, most=4096, is_recorded=True)
    # With 50 ms of latency each, 64 read 1,280 images a second.
    readers: int = option(
        "Images that are read and decoded at once; more for a slow bucket.",
        default=64,
        least=1,
        most=512,
        is_recorded=True,
    )
    # One that the server works on, one on the wire, one in its queue.
    requests_in_flight: int = option(
        "Requests that are under way at once.",
        more="That many for each of the two chunks that are worked on.",
        default=3,
        least=1,
        most=64,
        is_recorded=True,
    )


@options_class
class PredictOptions(ConnectionOptions, AnswerOptions, OutputOptions, Throughput, ImageLimits, ModelOverrides):
    """All that a user decides about a run."""

    inputs: Sequence[str] = option(
        "A folder, a glob ('photos/**/*.jpg'), an image, or a list of images; on a disk or in a bucket. May be "
        "repeated.",
        more="A list is a .txt with a path a line, or a .csv, .tsv, .jsonl or .parquet with a column path (id and "
        "label are kept). Buckets are gs://, s3:// and az://; https:// works, too.",
        flag="--input",
        metavar="PATH",
        group="Input",
    )
    images: str | None = option(
        "Folder of the images that a list names by relative paths or, as Kaggle's labels.csv does, by ids.",
        more="The image of an id is <id>.jpg.",
        default=None,
        metavar="FOLDER",
        group="Input",
    )
    output: str = option(
        "Folder for predictions.csv, rejected.csv, failed.csv and run.json.",
        metavar="FOLDER",
        group="Output",
        is_recorded=True,
    )
    columns: tuple[Fact, ...] = option(
        "Facts of each image to add: width, height, bytes, format, taken, sha256.",
        more="They are read from the image's bytes as they pass by. width and height are as stored, before any turn by "
        "EXIF; taken is the camera's clock.",
        default=(),
        default_words="none",
        metavar="FACT,…",
        group="Output",
    )
    embeddings: bool = option(
        "Write embeddings.parquet, too: the layer before the model's head of each predicted image.",
        more="A row an image, path and embedding (float16), in the order of the predictions: for search and "
        "clustering. It needs a model that this release's `flow-images train` exported.",
        default=False,
        group="Output",
    )
    max_rate: float | None = option(
        "Requests a second to the server, of all workers and shards of the run together.",
        more="Each takes an equal share; a request has up to --batch-size images. It leaves the server to others, such "
        "as people who wait for an answer.",
        default=None,
        default_words="no limit",
        metavar="N",
        least=0.001,
        most=1_000_000,
        group="Speed",
    )
    shard: Shard = option(
        "Do only share I (from 0) of N; the last one to finish merges.",
        group="Speed",
        default=Shard(),
        metavar="I/N",
        parse=Shard.parse,
    )
    fresh: bool = option(
        "Forget the run in --output and start over; leave it out to continue.", default=False, group="Output"
    )
    retry_failed: bool = option(
        "Ask again for images that failed, were missing or too slow, or have changed since they were rejected.",
        default=False,
        group="Output",
        is_recorded=True,
    )
    max_memory: int | None = option(
        "Memory that a worker's process may take, such as 2GiB.",
        more="Large images wait, go in smaller requests, or are rejected.",
        group="Limits",
        default=None,
        metavar="SIZE",
        parse=parse_byte_size,
        show=format_byte_size,
        least=128 * 2**20,
        most=2**50,
        default_words="most of the container's memory, else half of the machine's; with --model, half of that",
    )
    beam_flags: tuple[str, ...] = dataclasses.field(default=(), repr=False)
    """Beam's own; they may hold secrets, so they are shown nowhere."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.shard.number < self.shard.of <= MAX_SHARDS:
            raise UsageError(
                f"`shard` {self.shard}: expected I/N with I from 0 to N-1 and N at most {MAX_SHARDS:,}, such as 0/4"
            )
        if self.fresh and self.shard.of > 1:
            raise UsageError("`fresh` with `shard`: each shard would clear the others' work; choose another `output`")

    @property
    def asked(self) -> tuple[str, int | None] | None:
        """Name and version of the model that is asked for, so that a finished run of another one is not an answer."""
        return (self.model_name, self.model_version) if self.model_name else None

    @property
    def memory(self) -> Allowance:
        """What each worker's process may take."""
        return Allowance(self.max_memory, beside_server=self.model is not None)

    @property
    def overrides(self) -> ModelOverrides:
        """The options that describe a model without a contract."""
        return self.part(ModelOverrides)

    def record(self) -> dict[str, Any]:
        """What run.json says besides the plan's options and Beam's."""
        flags = {name: field.flag for name, field in option_fields(ModelOverrides).items()}
        overrides = {flags[name]: value for name, value in self.overrides.given.items()}
        return super().record() | {"max_memory": self.memory.limit, "plain_model": overrides}
