"""What a client must know of a model, from its endpoint alone; flags fill in for a model without a contract."""

import dataclasses
from pathlib import Path

from serving.client import ModelMetadata, PredictClient, TensorSpec
from serving.contract import WIRES, ModelContract, Preprocessing, SignatureRef, Wire
from serving.errors import ContractError, UsageError

_WIRE_BY_DTYPE: dict[str, Wire] = {"float32": "float32", "uint8": "uint8", "string": "encoded"}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PlainModel:
    """What flags say of a SavedModel that has no contract; None is taken from the server where it can tell."""

    labels: str | None = None
    """Path of a text file, one label a line."""
    image_size: int | None = None
    signature: str | None = None
    input_name: str | None = None
    output_name: str | None = None

    @property
    def given(self) -> dict[str, object]:
        """The fields that are set, by flag."""
        values = dataclasses.asdict(self).items()
        return {"--" + name.replace("_", "-"): value for name, value in values if value is not None}


def discover(client: PredictClient, plain: PlainModel) -> ModelContract:
    """The model's own contract; else one made of the signature on the server and the flags.

    Raises:
      UsageError: flags are missing for a model without a contract, or given for one that has it.
      ContractError: flags and server disagree, or the contract is unknown to this release.
    """
    contract = client.contract()
    if contract is None:
        return _describe(client.metadata(), plain)
    if plain.given:
        raise UsageError(
            f"{', '.join(plain.given)}: this model brings its own contract (labels, picture size, signatures), "
            "so leave these flags out"
        )
    return contract


def read_labels(path: str) -> list[str]:
    """Labels of a text file, one a line.

    Raises:
      UsageError: unreadable, fewer than two, empty or repeated ones.
    """
    try:
        labels = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--labels {path}: {error}") from error
    if len(labels) < 2 or "" in labels or len(set(labels)) != len(labels):
        raise UsageError(f"--labels {path}: expected at least two distinct labels, one a line")
    return labels


def _describe(metadata: ModelMetadata, plain: PlainModel) -> ModelContract:
    if plain.labels is None:
        raise UsageError(
            "the model has no contract, so its labels are unknown: give --labels FILE with one label a line"
        )
    labels = read_labels(plain.labels)
    name = plain.signature or "serving_default"
    if name not in metadata.signatures:
        raise ContractError(f"the model has no signature {name!r}; it has {', '.join(metadata.signatures)}")
    signature = metadata.signatures[name]
    input_name = _only(signature.inputs, plain.input_name, "input", name)
    output_name = _only(signature.outputs, plain.output_name, "output", name)
    dtype, shape = signature.inputs[input_name]
    if dtype not in _WIRE_BY_DTYPE:
        raise ContractError(f"input {input_name} is {dtype}; pictures can be sent as float32, uint8 or string")
    scores = signature.outputs[output_name]
    if not scores.dtype.startswith("float"):
        raise ContractError(f"output {output_name} is {scores.dtype}, which are no scores: choose with --output-name")
    classes = (scores.shape or (-1,))[-1]
    if classes not in (-1, len(labels)):
        raise ContractError(f"--labels {plain.labels} has {len(labels)} labels, the model {classes} classes")
    size = _image_size(shape if dtype != "string" else None, plain.image_size)
    return ModelContract(
        labels=labels,
        preprocessing=Preprocessing(height=size, width=size),
        signatures={_WIRE_BY_DTYPE[dtype]: SignatureRef(name=name, input=input_name, output=output_name)},
    )


def _only(tensors: dict[str, TensorSpec], wanted: str | None, kind: str, signature: str) -> str:
    names = list(tensors)
    if wanted is not None and wanted not in names:
        raise ContractError(f"--{kind}-name {wanted}: signature {signature} has the {kind}s {', '.join(names)}")
    if wanted is None and len(names) != 1:
        raise UsageError(f"signature {signature} has the {kind}s {', '.join(names)}: choose with --{kind}-name")
    return wanted or names[0]


def _image_size(shape: tuple[int, ...] | None, wanted: int | None) -> int:
    known = shape[1] if shape and len(shape) == 4 and shape[1] > 0 else None
    if wanted is None and known is None:
        raise UsageError("the server does not tell the model's picture size: give --image-size")
    if wanted and known and wanted != known:
        raise ContractError(f"--image-size {wanted}: the model takes pictures of {known} pixels")
    return wanted or known or 0


def choose_wire(contract: ModelContract, wanted: Wire | None) -> Wire:
    """The wire form asked for, or the first that the model has: float32, uint8, encoded.

    Raises:
      ContractError: the model does not have it.
    """
    if wanted is not None:
        contract.signature(wanted)
        return wanted
    return next(wire for wire in WIRES if wire in contract.signatures)
