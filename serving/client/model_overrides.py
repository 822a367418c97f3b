"""Options that describe a SavedModel without a contract."""

from typing import Literal

from serving.console.option_fields import Options, option, option_fields, options_class
from serving.text.sizes import format_image_size, parse_image_size

InputRange = Literal["0..1", "0..255", "-1..1"]
INPUT_RANGES: dict[InputRange, tuple[float, float]] = {"0..1": (0.0, 1.0), "0..255": (0.0, 255.0), "-1..1": (-1.0, 1.0)}
DEFAULT_RANGE: InputRange = "0..1"


@options_class
class ModelOverrides(Options, group="Models without a contract"):
    """What has to be known of a model without a contract; None is taken from the server where it says so."""

    labels: str | None = option("A file with a label a line.", default=None, metavar="FILE")
    image_size: tuple[int, int] | None = option(
        "Image size of the model, such as 224, or 320x240 (width x height).",
        default=None,
        metavar="PIXELS",
        parse=parse_image_size,
        show=format_image_size,
        least=1,
        most=8192,
        default_words="what the server tells",
    )
    input_range: InputRange | None = option(
        "What black and white are, if it takes float32.",
        default=None,
        default_words=DEFAULT_RANGE,
    )
    activation: Literal["softmax", "sigmoid", "none"] | None = option(
        "Function that turns its outputs into probabilities, if they are logits. none: take the outputs as they are.",
        default=None,
    )
    signature: str | None = option(
        "Name of the signature to ask.", default=None, metavar="NAME", default_words="serving_default"
    )
    input_name: str | None = option("The signature's input.", default=None, metavar="NAME")
    output_name: str | None = option("The signature's output.", default=None, metavar="NAME")

    @property
    def given(self) -> dict[str, str]:
        """The fields that are set, by name."""
        fields = option_fields(ModelOverrides).values()
        values = {field: getattr(self, field.name) for field in fields}
        return {field.name: field.text(value) for field, value in values.items() if value is not None}
