"""Finds a model's contract by its endpoint alone; for a model without one, options say what the server doesn't."""

from collections.abc import Sequence

from serving.client.model_calls import ModelCalls, ModelMetadata, TensorSpec
from serving.client.model_overrides import DEFAULT_RANGE, INPUT_RANGES, ModelOverrides
from serving.client.predict_client import PredictClient
from serving.contract import ModelContract, Preprocessing, SignatureRef
from serving.errors import ContractError, UsageError
from serving.images.wire import WIRES, Wire
from serving.network.sans_io import Operation
from serving.text.label_file import read_class_names

_WIRE_BY_DTYPE: dict[str, Wire] = {"float32": "float32", "uint8": "uint8", "string": "encoded"}
_SCORES = ("float32", "float64", "float16")
_DRAWN_SIZE = 224
"""Pixels of the drawn images that a model of unknown size is asked about."""


def discover(client: PredictClient, plain: ModelOverrides) -> ModelContract:
    """Does what `find_contract` does, for a client of threads."""
    return client.run(find_contract(client.calls, plain))


def find_contract(calls: ModelCalls, plain: ModelOverrides) -> Operation[ModelContract]:
    """The model's own contract; else one made of the signature on the server and the flags.

    Raises:
      UsageError: options are missing for a model without a contract, or given for one that has it.
      ContractError: options and server disagree, or the contract is unknown to this release.
    """
    contract = yield from calls.contract()
    if contract is None:
        return _describe((yield from calls.metadata()), plain)
    if plain.given:
        given = ", ".join(f"`{name}`" for name in plain.given)
        raise UsageError(
            f"{given}: this model brings its own contract (labels, image size, signatures), so leave these out"
        )
    return contract


def _describe(metadata: ModelMetadata, plain: ModelOverrides) -> ModelContract:
    if plain.labels is None:
        raise UsageError(
            "the model has no contract, so its labels are unknown: give `labels` FILE with one label a line"
        )
    labels = read_class_names(plain.labels)
    name = plain.signature or "serving_default"
    if name not in metadata.signatures:
        raise ContractError(
            f"the model has no signature {name!r}; it has {', '.join(metadata.signatures)}: choose with `signature`"
        )
    signature = metadata.signatures[name]
    input_name = _only(signature.inputs, plain.input_name, "input", name)
    output_name = _only(signature.outputs, plain.output_name, "output", name)
    images = signature.inputs[input_name]
    wire = _wire(f"input {input_name} of signature {name}", images)
    _check_output(f"output {output_name} of signature {name}", signature.outputs[output_name], labels, plain)
    if plain.input_range is not None and wire != "float32":
        raise UsageError(f"`input_range` is for models that take float32; {input_name} takes {images.dtype}")
    height, width = _image_size(wire, images.shape, plain.image_size)
    batch = images.shape[0] if images.shape and images.shape[0] > 0 else None
    return ModelContract(
        labels=labels,
        preprocessing=Preprocessing(
            height=height, width=width, value_range=INPUT_RANGES[plain.input_range or DEFAULT_RANGE]
        ),
        signatures={wire: SignatureRef(name=name, input=input_name, output=output_name, batch=batch)},
        activation=None if plain.activation == "none" else plain.activation,
    )


def _only(tensors: dict[str, TensorSpec], wanted: str | None, kind: str, signature: str) -> str:
    names = list(tensors)
    if wanted is not None and wanted not in names:
        raise ContractError(f"`{kind}_name` {wanted}: signature {signature} has the {kind}s {', '.join(names)}")
    if wanted is None and len(names) != 1:
        raise UsageError(f"signature {signature} has the {kind}s {', '.join(names)}: choose with `{kind}_name`")
    return wanted or names[0]


def _wire(what: str, images: TensorSpec) -> Wire:
    """The wire form of an input, if it can take batches of RGB images.

    Raises:
      ContractError: it can't; with what would help.
    """
    dtype, shape = images
    if dtype not in _WIRE_BY_DTYPE:
        raise ContractError(
            f"{what} is {dtype}; images can be sent as float32, uint8 or string (whole files): export the model with "
            "such an input, and a tf.cast behind it"
        )
    wire = _WIRE_BY_DTYPE[dtype]
    if shape is None:
        return wire
    shown = f"{what} is {dtype} {_shown(shape)}"
    if wire == "encoded":
        if len(shape) != 1:
            raise ContractError(f"{shown}; files are sent as strings [N]: export the model with such an input")
        return wire
    if len(shape) != 4:
        axis = ": it has no axis for the batch" if len(shape) == 3 else ""
        raise ContractError(f"{shown}{axis}; images are sent as [N, height, width, 3]: export the model that way")
    channels = shape[3]
    if shape[1] in (1, 3, 4) and channels not in (1, 3, 4):
        raise ContractError(
            f"{shown}: channels first; images are sent with channels last, [N, height, width, 3]. Export the model "
            "with channels last, or with a signature that transposes its input: tf.transpose(x, [0, 3, 1, 2])"
        )
    if channels not in (-1, 3):
        kind = {1: "grey images (1 channel)", 4: "images with transparency (4 channels)"}
        raise ContractError(
            f"{shown}: it takes {kind.get(channels, f'{channels} channels')}; images are sent as RGB, 3 channels: "
            "export the model with a signature that converts them"
        )
    return wire


def _check_output(what: str, scores: TensorSpec, labels: Sequence[str], plain: ModelOverrides) -> None:
    """Raises ContractError for an output that can't be a score for each label."""
    dtype, shape = scores
    if dtype not in _SCORES:
        raise ContractError(
            f"{what} is {dtype}: scores must be {' or '.join(_SCORES)}. Choose another output with `output_name`"
        )
    if shape is None:
        return
    if len(shape) != 2:
        raise ContractError(
            f"{what} is {dtype} {_shown(shape)}: expected [N, {len(labels)}], one row of scores an image. Choose "
            "another output with `output_name`, or export the model with one"
        )
    classes = shape[1]
    fits = classes in (-1, len(labels)) or (classes == 1 and len(labels) == 2)  # one number: the second label's
    if not fits:
        raise ContractError(f"`labels` {plain.labels} has {len(labels)} labels, the model {classes} classes ({what})")


def _shown(shape: Sequence[int]) -> str:
    sizes = ["?" if size < 0 else str(size) for size in shape]
    return f"[{', '.join(['N', *sizes[1:]] if sizes and sizes[0] == '?' else sizes)}]"


def _image_size(wire: Wire, shape: tuple[int, ...] | None, wanted: tuple[int, int] | None) -> tuple[int, int]:
    """Height and width, by the server or the option."""
    known = shape[1:3] if shape and len(shape) == 4 else (-1, -1)
    if wanted is None:
        if wire == "encoded":
            return _DRAWN_SIZE, _DRAWN_SIZE  # files are sent as they are
        if -1 in known:
            raise UsageError("the server does not tell the model's image size: give `image_size`")
        return known[0], known[1]
    width, height = wanted
    if any(told not in (-1, given) for told, given in zip(known, (height, width), strict=True)):
        takes = "any" if known[1] < 0 else known[1], "any" if known[0] < 0 else known[0]
        raise ContractError(f"`image_size` {width}x{height}: the model takes images of {takes[0]} x {takes[1]} pixels")
    return height, width


def choose_wire(contract: ModelContract, wanted: Wire | Sequence[Wire] | None) -> Wire:
    """The wire form asked for, or the first of several that the model has: of None float32, uint8, encoded.

    Raises:
      ContractError: the model does not have it.
    """
    order = WIRES if wanted is None else (wanted,) if isinstance(wanted, str) else wanted
    found = next((wire for wire in order if wire in contract.signatures), order[-1])
    contract.signature(found)
    return found
