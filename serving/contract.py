"""The model contract: all that a client has to know of a model to ask it about images.

It is exported with the model, answered by the model's own `contract` signature, and therefore reachable through
any server of the model. One JSON document, of this schema.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal, Self

import pydantic

from serving.errors import ContractError, UsageError
from serving.images.wire import Wire

SCHEMA_VERSION: Final = 1
Orientation = Literal["ignore", "exif"]
ALGORITHMS: dict[Orientation, int] = {"ignore": 1, "exif": 2}
"""Number of the preprocessing that `serving.images.preprocessing` implements; it changes whenever a pixel would. For
`exif`, 1 looked for the tag in a JPEG's first segments only."""

Activation = Literal["softmax", "sigmoid"]

CONTRACT_SIGNATURE = "contract"
CONTRACT_INPUT, CONTRACT_OUTPUT = "keys", "values"
CONTRACT_KEY = "contract"
CONTRACT_ASSET = "contract.json"
"""File name in the version's `assets.extra` folder of the same JSON."""


def golden_key(index: int) -> str:
    """Key under which the `contract` signature answers golden image `index`, as a whole file."""
    return f"golden/{index}"


class _Frozen(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")


class Preprocessing(_Frozen):
    """From the bytes of an image file to float32 [height, width, 3], RGB. See `serving.images.preprocessing`."""

    height: Annotated[int, pydantic.Field(ge=1, le=8192)]
    width: Annotated[int, pydantic.Field(ge=1, le=8192)]
    orientation: Orientation = "ignore"
    """`exif` turns an image upright by its EXIF orientation; `ignore` takes the pixels as stored."""
    algorithm: int = pydantic.Field(default_factory=lambda fields: ALGORITHMS[fields["orientation"]])
    resize: Literal["bilinear"] = "bilinear"
    antialias: Literal[False] = False
    channels: Literal["RGB"] = "RGB"
    value_range: tuple[pydantic.FiniteFloat, pydantic.FiniteFloat] = (0.0, 1.0)
    """What black and white become in the `float32` wire form; `uint8` has 0..255, and files are sent as they are."""

    @pydantic.model_validator(mode="after")
    def _range_rises(self) -> Self:
        if not self.value_range[0] < self.value_range[1]:
            raise ValueError("value_range must rise")
        return self

    @property
    def fingerprint(self) -> str:
        """Hash of the canonical parameters: equal exactly if every image gets the same pixels."""
        return _digest(self.model_dump(mode="json"))


class SignatureRef(_Frozen):
    """One way to ask: the signature's name and the names of its tensors, batched on the first axis."""

    name: str
    input: str
    output: str
    ok: str | None = None
    """Output that says of each row whether its image could be decoded; None where decoding is the client's."""
    batch: int | None = pydantic.Field(default=None, ge=1, exclude_if=lambda batch: batch is None)
    """Rows that every request must have; None for any number."""
    embeddings: str | None = pydantic.Field(default=None, exclude_if=lambda output: output is None)
    """Output with the layer before the head, from the same pass of the network; None where there is none."""


STANDARD_SIGNATURES: dict[Wire, SignatureRef] = {
    "float32": SignatureRef(name="serving_default", input="images", output="probabilities"),
    "uint8": SignatureRef(name="serving_uint8", input="images", output="probabilities"),
    "encoded": SignatureRef(name="serving_encoded", input="image_bytes", output="probabilities", ok="ok"),
}
EMBEDDING_SIGNATURES: dict[Wire, SignatureRef] = {
    wire: standard.model_copy(update={"name": f"{standard.name}_embeddings", "embeddings": "embeddings"})
    for wire, standard in STANDARD_SIGNATURES.items()
}


class Embeddings(_Frozen):
    """How the layer before a model's head is asked for: the embedding of an image, for search and clustering."""

    width: Annotated[int, pydantic.Field(ge=1)]
    """Numbers of one image."""
    signatures: dict[Wire, SignatureRef] = pydantic.Field(default_factory=lambda: dict(EMBEDDING_SIGNATURES))
    """Signatures that answer the probabilities, too, so that one request gives both."""

    @pydantic.model_validator(mode="after")
    def _signatures_give_embeddings(self) -> Self:
        if not all(signature.embeddings for signature in self.signatures.values()):
            raise ValueError("each signature must name its output `embeddings`")
        return self


class Golden(_Frozen):
    """Images that travel with the model and what it answered for them when it was exported."""

    count: Annotated[int, pydantic.Field(ge=1)]
    references: dict[Wire, list[list[float]]]
    """Probabilities [count, classes] per wire form."""
    tolerance: Annotated[float, pydantic.Field(gt=0)]
    """Largest allowed `golden_distance` between a server's answers and the references."""
    controls: dict[str, float]
    """`golden_distance` that each wrong preprocessing would cause, measured at export; the check
    notices those above the tolerance."""


class ModelContract(_Frozen):
    """What a served image classifier is: labels, preprocessing, signatures and golden images."""

    schema_version: Literal[1] = SCHEMA_VERSION
    labels: Annotated[list[str], pydantic.Field(min_length=2)]
    """Class names; position i names output i."""
    preprocessing: Preprocessing
    signatures: dict[Wire, SignatureRef] = pydantic.Field(default_factory=lambda: dict(STANDARD_SIGNATURES))
    golden: Golden | None = None
    """None for a plain SavedModel that was described by flags."""
    activation: Activation | None = pydantic.Field(default=None, exclude_if=lambda activation: activation is None)
    """What the client makes scores of a plain model's outputs with; None where they are scores already."""
    threshold: float | None = pydantic.Field(default=None, ge=0, le=1, exclude_if=lambda threshold: threshold is None)
    """Best score below which an answer means "I don't know"; None where the model promises nothing."""
    target_precision: float | None = pydantic.Field(default=None, gt=0, lt=1, exclude_if=lambda share: share is None)
    """Share of right answers at or above the threshold that it was chosen for, on images not trained on."""
    groups: dict[str, str] | None = pydantic.Field(default=None, exclude_if=lambda groups: groups is None)
    """The coarser group of each label, for answers that are sure of no class; None where there are none."""
    embeddings: Embeddings | None = pydantic.Field(default=None, exclude_if=lambda embeddings: embeddings is None)
    """How the layer before the head is asked for; None where the model does not give it."""
    versions: dict[str, str] = pydantic.Field(default_factory=dict)
    """Versions of the main libraries at export, for the record."""

    @pydantic.model_validator(mode="after")
    def _labels_are_distinct(self) -> Self:
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("labels must be distinct")
        return self

    @pydantic.model_validator(mode="after")
    def _groups_are_of_labels(self) -> Self:
        if self.groups is not None and set(self.groups) != set(self.labels):
            raise ValueError("groups must name each label once, and nothing else")
        return self

    @pydantic.model_validator(mode="after")
    def _threshold_says_what_for(self) -> Self:
        if (self.threshold is None) != (self.target_precision is None):
            raise ValueError("threshold and target_precision go together")
        return self

    @property
    def fingerprint(self) -> str:
        """Hash of the whole contract: two models with the same one give the same answers to the same images."""
        return _digest(self.model_dump(mode="json", exclude={"versions"}))

    def signature(self, wire: Wire, *, embeddings: bool = False) -> SignatureRef:
        """The signature for a wire form.

        Args:
          wire: the form.
          embeddings: whether it has to give the layer before the head, too.

        Raises:
          ContractError: the model has none for it.
          UsageError: it has none that gives embeddings.
        """
        if embeddings and (self.embeddings is None or wire not in self.embeddings.signatures):
            raise UsageError(
                "`embeddings`: the model has no signature that gives the layer before its head. Models that "
                "`flow-images train` exports have: train it again with this release"
            )
        if wire not in self.signatures:
            raise ContractError(f"the model has no signature for `wire` {wire}; it has {', '.join(self.signatures)}")
        return (self.embeddings.signatures if embeddings and self.embeddings else self.signatures)[wire]

    @property
    def takes_any_file(self) -> bool:
        """Does the server decode files, and say which it can't? So it can be asked about any file."""
        return "encoded" in self.signatures and self.signatures["encoded"].ok is not None

    def to_json(self) -> str:
        """The JSON document that the `contract` signature answers."""
        return self.model_dump_json()

    @classmethod
    def from_json(cls, text: str | bytes) -> "ModelContract":
        """Reads a contract.

        Raises:
          ContractError: not JSON of this schema, or of another schema version or preprocessing algorithm
            than this release knows.
        """
        try:
            schema_version = json.loads(text).get("schema_version")
        except (ValueError, AttributeError) as error:
            raise ContractError(f"the model's contract is not a JSON object: {error}") from error
        if schema_version != SCHEMA_VERSION:
            raise ContractError(
                f"the model's contract has schema version {schema_version}, this release reads "
                f"{SCHEMA_VERSION}: use a flow-images release that is as new as the trainer's"
            )
        try:
            contract = cls.model_validate_json(text)
        except pydantic.ValidationError as error:
            problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            raise ContractError(f"the model's contract is not valid: {problems}") from error
        preprocessing = contract.preprocessing
        ours = ALGORITHMS[preprocessing.orientation]
        if preprocessing.algorithm != ours:
            raise ContractError(
                f"the model was exported with preprocessing algorithm {preprocessing.algorithm} for orientation "
                f"{preprocessing.orientation}, this release implements {ours}: predictions would be skewed, so nothing "
                "was sent. Train the model again with this release, or predict with the one that exported it"
            )
        return contract


def golden_distance(answers: Sequence[Sequence[float]], references: Sequence[Sequence[float]]) -> float:
    """Mean over the images of the largest change of any probability, in 0..1.

    The mean, because one image near a decision boundary can move far by noise alone.
    """
    changes = [
        max(abs(a - r) for a, r in zip(answer, reference, strict=True))
        for answer, reference in zip(answers, references, strict=True)
    ]
    return sum(changes) / len(changes)


def _digest(value: Any) -> str:
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]
