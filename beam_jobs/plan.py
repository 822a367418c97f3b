"""The plan of a run: what was decided once, by its first process, and holds for every shard, pod and rerun.

It is created beside the manifest if there is none; whoever comes later adopts it, or is refused if its own options
would mix results.
"""

import datetime
import os
import uuid
from collections.abc import Sequence
from typing import Any, Literal, Self

import pydantic

from beam_jobs.manifest import Manifest, Row
from beam_jobs.options import PredictOptions
from beam_jobs.parts import Parts
from beam_jobs.sources import Source
from serving.contract import ModelContract, Wire
from serving.errors import EXIT_RESUMABLE, FlowImagesError, UsageError
from serving.model_overrides import DEFAULT_RANGE
from serving.storage.base import Storage, absolute, join, scheme

STATE = "_state"
"""Folder below the output that holds manifest, plan and parts."""


class ResultOptions(pydantic.BaseModel):
    """Options that decide what the output says: a run has one set of them."""

    model_config = pydantic.ConfigDict(frozen=True)

    inputs: list[str]
    """Absolute, so that the same words said in another folder are not taken for the same inputs."""
    wire: Wire
    top_k: int
    format: Literal["csv", "kaggle"]
    max_image_bytes: int
    max_image_pixels: int
    shards: int
    activation: str | None = None
    """For a model without a contract; None where its outputs are scores."""
    input_range: str | None = None
    """The same; None for 0..1, or where it isn't the client's matter."""

    @classmethod
    def of(cls, options: PredictOptions, wire: Wire) -> Self:
        """Those of a run, with the wire form that was chosen for it."""
        return cls(
            inputs=[absolute(one) for one in options.inputs],
            wire=wire,
            top_k=0 if options.format == "kaggle" else options.top_k,
            format=options.format,
            max_image_bytes=options.max_image_bytes,
            max_image_pixels=options.max_image_pixels,
            shards=options.shard.of,
            activation=None if options.activation == "none" else options.activation,
            input_range=None if options.input_range == DEFAULT_RANGE else options.input_range,
        )


class PlannedModel(pydantic.BaseModel):
    """The one model version of a run."""

    model_config = pydantic.ConfigDict(frozen=True)

    name: str
    version: int
    contract: ModelContract


class Plan(pydantic.BaseModel):
    """What every process of a run agrees on."""

    model_config = pydantic.ConfigDict(frozen=True)

    id: str = pydantic.Field(default_factory=lambda: uuid.uuid4().hex[:12])
    """Of this run alone, also against one with the same options in the same output: a part of another, be it left by
    an interrupted --fresh or written by a process that does not know yet, is never taken for its own."""
    started: datetime.datetime
    options: ResultOptions
    model: PlannedModel
    manifest: Manifest
    base: str = pydantic.Field(default_factory=os.getcwd)
    """The folder that relative paths of the manifest are below: the first process's working directory."""
    sources: list[Source] = []
    """Where the pictures were when they were listed."""
    left_out: dict[str, int] = {}
    """Files and folders that the listing saw and did not take, by why; see `beam_jobs.inputs.LEFT_OUT`."""

    def locate(self, path: str) -> str:
        """Where the file of a row is, whatever the working directory of who asks."""
        return path if scheme(path) else os.path.join(self.base, path)

    def check(self, options: ResultOptions, model: PlannedModel, output: str) -> None:
        """Refuses a process whose results would not fit the run's.

        Raises:
          UsageError: names the option that differs, and the choice.
        """
        ours: dict[str, Any] = self.options.model_dump() | _identity(self.model)
        theirs: dict[str, Any] = options.model_dump() | _identity(model)
        differing = [
            f"{name} {ours[name]!r} there, {theirs[name]!r} now" for name in ours if ours[name] != theirs[name]
        ]
        if differing:
            raise UsageError(
                f"{output} holds a run with other options ({'; '.join(differing)}). To continue it, give the same "
                "ones; to start over, add --fresh; or choose another --output"
            )


class OutputGone(FlowImagesError):
    """All that a run wrote is gone; the run can go on once it is back."""

    exit_code = EXIT_RESUMABLE


class RunFolder:
    """Paths of a run below its output folder, and its plan."""

    def __init__(self, storage: Storage, output: str) -> None:
        self.storage = storage
        self.output = output
        self.state = join(output, STATE)

    def parts(self, plan: Plan) -> Parts:
        """The parts of one run, which nobody else's are mixed with."""
        return Parts(self.storage, join(self.state, "parts", plan.id))

    def manifest_path(self, manifest: Manifest) -> str:
        """Named after its content, so that two first processes can't overwrite each other's."""
        return join(self.state, f"manifest-{manifest.digest[:16]}.jsonl")

    def read_chunk(self, plan: Plan, chunk: int) -> list[Row]:
        """The rows of one chunk.

        Raises:
          OutputGone: the whole run is gone.
          FlowImagesError: the list of its pictures is gone, or not as it was written.
        """
        path = self.manifest_path(plan.manifest)
        try:
            return plan.manifest.read_chunk(self.storage, path, chunk)
        except FileNotFoundError as error:
            if self.storage.exists(self._plan_path):
                raise FlowImagesError(
                    f"{path} is gone, so the run can't be completed: start over with --fresh"
                ) from error
            raise OutputGone(
                f"--output {self.output} does not hold the run any more; was it unmounted, moved or deleted? Bring it "
                "back, and the same command continues"
            ) from error

    def load_plan(self) -> Plan | None:
        """The plan, or None before a run.

        Raises:
          FlowImagesError: it can't be read by this release.
        """
        try:
            return Plan.model_validate_json(self.storage.read(self._plan_path))
        except FileNotFoundError:
            return None
        except pydantic.ValidationError as error:
            raise FlowImagesError(
                f"{self._plan_path} is of another release or damaged; use --fresh to start over"
            ) from error

    def adopt_plan(self, plan: Plan) -> Plan:
        """Creates the plan, or gives the one that another process created meanwhile."""
        if self.storage.create(self._plan_path, plan.model_dump_json(indent=1).encode()):
            return plan
        return self.load_plan() or plan

    def clear(self, files: Sequence[str]) -> None:
        """Forgets a run: its results first, so that no stale one looks complete, then the state."""
        for path in (*files, self._plan_path):
            self.storage.delete(path)
        for info in self.storage.walk(self.state):
            self.storage.delete(info.path)

    @property
    def _plan_path(self) -> str:
        return join(self.state, "plan.json")


def _identity(model: PlannedModel) -> dict[str, Any]:
    return {"model_name": model.name, "model_version": model.version, "contract": model.contract.fingerprint}
