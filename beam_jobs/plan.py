"""The plan of a run: what was decided once, by its first process, and holds for every shard, pod and rerun.

It is created beside the manifest if there is none; whoever comes later adopts it, or is refused if its own options
would mix results.
"""

import datetime
import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from typing import IO, Any, Literal, Self, get_args

import pydantic

from beam_jobs.fresh_links import Links
from beam_jobs.image_names import image_name
from beam_jobs.known_sources import Source
from beam_jobs.manifest import Manifest, Row
from beam_jobs.parts import Parts
from beam_jobs.predict_options import Format, OutputOptions, PredictOptions
from serving.client.model_overrides import DEFAULT_RANGE
from serving.contract import ModelContract
from serving.errors import FlowImagesError, Resumable, StorageError, UsageError
from serving.images.facts import Fact
from serving.images.wire import Wire
from serving.storage.base import Storage, absolute, join, scheme, shown

STATE = "_state"
"""Folder below the output that holds manifest, plan and parts."""


class ResultOptions(pydantic.BaseModel):
    """Options that decide what the output says: a run has one set of them."""

    model_config = pydantic.ConfigDict(frozen=True)

    inputs: list[str]
    """Absolute, as the same relative paths mean other files in another working directory."""
    images: str | None = None
    """The folder of a list's relative paths and ids, absolute; None for the working directory."""
    wire: Wire
    top_k: int
    """Scores that are kept of each image, the best first; 0 for all of them, in the order of the labels."""
    format: Literal["csv", "kaggle"]
    """`kaggle` if all scores are kept, and ids are unique."""
    columns: tuple[Fact, ...] = ()
    """Facts that are kept of each image."""
    max_image_bytes: int
    max_image_pixels: int
    shards: int
    activation: str | None = None
    """What makes scores of the outputs of a model without a contract; None where they are scores."""
    input_range: str | None = None
    """What black and white are for a model without a contract; None for 0..1, and where the server decodes."""
    embeddings: bool = False

    @classmethod
    def of(cls, options: PredictOptions, wire: Wire, kept: Self | None = None) -> Self:
        """The settings of a run.

        Args:
          options: that are given.
          wire: the form that was chosen.
          kept: those of the run that is continued: where it keeps all scores, it has those for any form.
        """
        for_kaggle = "kaggle" in (options.format or ()) or (kept is not None and kept.format == "kaggle")
        return cls(
            inputs=[absolute(one) for one in options.inputs],
            images=None if options.images is None else absolute(options.images),
            wire=wire,
            top_k=0 if for_kaggle else options.top_k,
            format="kaggle" if for_kaggle else "csv",
            columns=options.columns,
            max_image_bytes=options.max_image_bytes,
            max_image_pixels=options.max_image_pixels,
            shards=options.shard.of,
            activation=None if options.activation == "none" else options.activation,
            input_range=None if options.input_range == DEFAULT_RANGE else options.input_range,
            embeddings=options.embeddings,
        )


class OutputForms(pydantic.BaseModel):
    """What the files of predictions look like. The parts have all that any of them needs, so it may change later."""

    model_config = pydantic.ConfigDict(frozen=True)

    formats: tuple[Format, ...] = ("csv",)
    threshold: float = 0.0
    """Least score of an answer that is not `unknown`; 0 for none."""
    top_k: int = 5
    """Labels of each image, the best first."""

    def record(self) -> dict[str, Any]:
        """What run.json says of them."""
        return {"format": ",".join(self.formats), "threshold": self.threshold, "top_k": self.top_k}

    @classmethod
    def recorded(cls, options: Mapping[str, Any]) -> Self:
        """What run.json's options say, as far as they do; an earlier release told less."""
        names = str(options.get("format", "csv")).split(",")
        threshold, top_k = options.get("threshold"), options.get("top_k")
        formats = tuple(one for one in get_args(Format) if one in names)
        found: dict[str, Any] = {"formats": formats} if formats else {}
        if isinstance(threshold, int | float):
            found["threshold"] = threshold
        if isinstance(top_k, int) and top_k > 0:
            found["top_k"] = top_k
        return cls(**found)

    def with_given(self, given: OutputOptions, top_k: int | None = None) -> Self:
        """These, with what a user gives now instead."""
        threshold = None if given.threshold is None else given.threshold + 0.0  # which takes the sign from -0.0
        found = {"formats": given.format, "threshold": threshold, "top_k": top_k}
        return self.model_copy(update={name: value for name, value in found.items() if value is not None})


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
    """Names the folder of the run's parts, so that it never takes another run's for its own: neither those left by an
    interrupted `fresh`, nor those of a process that still works on the run before."""
    started: datetime.datetime
    options: ResultOptions
    model: PlannedModel
    manifest: Manifest
    base: str = pydantic.Field(default_factory=os.getcwd)
    """The folder that relative paths of the manifest are below: the first process's working directory."""
    sources: list[Source] = []
    """Where the images were when they were listed."""
    recorded: dict[str, Any] = {}
    """What run.json says of the first process's options besides these; a later process that merges has its own."""
    forms: OutputForms | None = None
    """What the files of predictions look like, unless someone wants others later; None from an earlier release."""
    left_out: dict[str, int] = {}
    """Number of files and folders that the listing left out, by reason; see `beam_jobs.listing.LEFT_OUT`."""

    @property
    def first_forms(self) -> OutputForms:
        """What the files of predictions look like where nobody wants others."""
        return self.forms or OutputForms(
            formats=(self.options.format,), top_k=self.options.top_k or OutputForms().top_k
        )

    def locate(self, path: str) -> str:
        """Where the file of a row is, whatever the caller's working directory."""
        return path if scheme(path) else os.path.join(self.base, path)

    def check(self, options: ResultOptions, model: PlannedModel, output: str) -> None:
        """Refuses a process whose results would not fit the run's.

        Args:
          options: of the process.
          model: that it would ask.
          output: the run's output folder, for the message.

        Raises:
          UsageError: names the option that differs, and the choice.
        """
        ours: dict[str, Any] = self.options.model_dump() | _identity(self.model)
        theirs: dict[str, Any] = options.model_dump() | _identity(model)
        if list(map(_name, ours["inputs"])) == list(map(_name, theirs["inputs"])):
            theirs["inputs"] = ours["inputs"]
        differing = [
            f"{name} {_shown(ours[name])!r} there, {_shown(theirs[name])!r} now"
            for name in ours
            if ours[name] != theirs[name]
        ]
        if differing:
            raise UsageError(
                f"{output} holds a run with other options ({'; '.join(differing)}). To continue it, give the same "
                "ones; to start over, add `fresh`; or choose another `output`"
            )


class OutputGone(StorageError, Resumable):
    """The plan and all else that the run wrote is gone; the run can go on once it is back."""


class RunFolder:
    """A run's output folder: where its plan, manifest and parts are."""

    def __init__(self, storage: Storage, output: str) -> None:
        """Reads nothing yet.

        Args:
          storage: holds the folder.
          output: the folder's path.
        """
        self.storage = storage
        self.output = output
        self.state = join(output, STATE)
        self.links: Links | None = None
        """New links to the run's images, where the inputs have such."""

    def parts(self, plan: Plan) -> Parts:
        """The parts of one run, which are kept apart from any other's."""
        return Parts(self.storage, join(self.state, "parts", plan.id))

    def workers_folder(self, plan: Plan) -> str:
        """The folder where processes that work on a run announce themselves."""
        return join(self.state, "workers", plan.id)

    def manifest_path(self, manifest: Manifest) -> str:
        """Named after its content, so that two first processes can't overwrite each other's."""
        return join(self.state, f"manifest-{manifest.digest[:16]}.jsonl")

    def store_manifest(self, manifest: Manifest, file: IO[bytes]) -> None:
        """Writes the manifest's file."""
        file.seek(0)
        with self.storage.replacing(self.manifest_path(manifest)) as stored:
            shutil.copyfileobj(file, stored)

    def read_chunk(self, plan: Plan, chunk: int) -> list[Row]:
        """The rows of one chunk.

        Raises:
          OutputGone: the whole run is gone.
          FlowImagesError: the list of its images is gone, or not as it was written.
        """
        path = self.manifest_path(plan.manifest)
        try:
            return plan.manifest.read_chunk(self.storage, path, chunk)
        except FileNotFoundError as error:
            if self.storage.exists(self._plan_path):
                raise FlowImagesError(
                    f"{path} is gone, so the run can't be completed: start over with `fresh`"
                ) from error
            raise self._gone() from error

    def read_places(self, plan: Plan, chunk: int) -> list[Row]:
        """The rows of one chunk, with the paths where their files are now; raises as `read_chunk`."""
        rows = self.read_chunk(plan, chunk)
        if self.links:
            rows = self.links.apply(self.storage, chunk, rows)
        return [row if row.unnameable else row._replace(path=plan.locate(row.path)) for row in rows]

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
                f"{self._plan_path} is from another release, or damaged; use `fresh` to start over"
            ) from error

    def adopt_plan(self, plan: Plan) -> Plan:
        """Creates the plan, or gives the one that another process created meanwhile.

        Raises:
          OutputGone: another process's plan was there, and is gone again.
        """
        if self.storage.create(self._plan_path, plan.model_dump_json(indent=1).encode()):
            return plan
        adopted = self.load_plan()
        if adopted is None:
            raise self._gone()
        return adopted

    def clear(self, files: Sequence[str]) -> None:
        """Deletes a run: its results (`files`) first, so that no old one looks complete, then its plan and the rest."""
        for path in (*files, self._plan_path):
            self.storage.delete(path)
        for info in self.storage.walk(self.state):
            self.storage.delete(info.path)

    def _gone(self) -> OutputGone:
        return OutputGone(
            f"`output` {self.output} no longer holds the run; was it unmounted, moved or deleted? Bring it "
            "back, and the same command continues"
        )

    @property
    def _plan_path(self) -> str:
        return join(self.state, "plan.json")


def _shown(value: Any) -> Any:
    """A value for messages: in a list of inputs, URLs have no query, which may be a signature."""
    return [shown(one) for one in value] if isinstance(value, list) else value


def _name(one: str) -> str:
    """An input without the signature that its link may have, which is another one each day."""
    return image_name(one, "")


def _identity(model: PlannedModel) -> dict[str, Any]:
    return {"model_name": model.name, "model_version": model.version, "contract": model.contract.fingerprint}
