"""What a user decides about a prediction run."""

import dataclasses
from typing import Literal, NamedTuple

from beam_jobs.chunk_predictor import ChunkOptions
from beam_jobs.memory import Allowance
from beam_jobs.plan import ResultOptions
from serving.contract import Wire
from serving.discovery import DEFAULT_RANGE, ModelOverrides
from serving.images.limits import PictureLimits
from serving.options import RetryPolicy
from serving.storage.base import absolute


class Shard(NamedTuple):
    """Share `number` of `of`, from 0: the chunks k with k mod of = number."""

    number: int = 0
    of: int = 1


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PredictOptions:
    """All that a user decides about a run, but for the endpoint."""

    inputs: tuple[str, ...]
    output: str
    wire: Wire | None = None
    """None for the plan's, or the first that the model has."""
    format: Literal["csv", "kaggle"] = "csv"
    top_k: int = 5
    shard: Shard = Shard()
    fresh: bool = False
    retry_failed: bool = False
    limits: PictureLimits = PictureLimits()
    chunk: ChunkOptions = ChunkOptions()
    memory: Allowance = Allowance()
    """What each worker's process may take."""
    retry: RetryPolicy = RetryPolicy()
    plain: ModelOverrides = ModelOverrides()
    asked: tuple[str, int | None] | None = None
    """Name and version of the model that is asked for, so that a finished run of another one is no answer."""
    beam_flags: tuple[str, ...] = dataclasses.field(default=(), repr=False)
    """Beam's own; they may hold secrets, so they are shown nowhere."""

    def result_options(self, wire: Wire) -> ResultOptions:
        """Those that decide what the output says."""
        return ResultOptions(
            inputs=[absolute(one) for one in self.inputs],
            wire=wire,
            top_k=0 if self.format == "kaggle" else self.top_k,
            format=self.format,
            max_image_bytes=self.limits.max_bytes,
            max_image_pixels=self.limits.max_pixels,
            shards=self.shard.of,
            activation=None if self.plain.activation == "none" else self.plain.activation,
            input_range=None if self.plain.input_range == DEFAULT_RANGE else self.plain.input_range,
        )
