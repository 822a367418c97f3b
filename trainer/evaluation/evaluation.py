"""What is known of a model's answers to labelled images: the content of `evaluation.json`."""

from typing import Annotated, Final, Literal

import pydantic

EVALUATION_FILE: Final = "evaluation.json"


class _Frozen(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")


class Estimate(_Frozen):
    """A figure with its 95 % confidence interval: Wilson's of a share, else by bootstrap over the images."""

    value: float
    low: float
    high: float


class ClassMetrics(_Frozen):
    """One class. A figure is None where nothing defines it: no image of the class, or none predicted as it."""

    label: str
    images: int
    predicted: int
    """How many images the model took for this class."""
    right: int
    precision: float | None
    recall: float | None
    f1: float | None


class SliceMetrics(_Frozen):
    """The images with one value of a column of the CSV (or of one class, in the column `label`)."""

    column: str
    value: str
    images: int
    accuracy: Estimate


class ReliabilityBin(_Frozen):
    """Images whose best score lies in one range."""

    low: float
    high: float
    images: int
    confidence: float
    """Mean of their best scores."""
    accuracy: float


class Calibration(_Frozen):
    """Whether a score of 0.8 means right in 80 of 100 cases."""

    temperature: float
    """The logits were divided by it in the exported graph; 1 where none was fitted."""
    error_before: float
    """Expected calibration error on these images, 0..1, without the temperature (Guo et al. 2017, 15 bins)."""
    error: float
    """The same of the model's answers as they are."""
    bins: tuple[ReliabilityBin, ...]


class Threshold(_Frozen):
    """Best score below which the answer is "unknown"; chosen on validation, and what it does on these images."""

    value: Annotated[float, pydantic.Field(ge=0, le=1)]
    target_precision: float
    precision: float | None
    """Share of right ones among the images at or above the threshold; None if there are none."""
    coverage: float
    """Share of the images at or above it."""


class Mistake(_Frozen):
    """An image that the model took for another class."""

    path: str
    label: str
    predicted: str
    score: float
    """The score of the predicted class."""
    label_score: float
    columns: dict[str, str] = {}
    """The other columns of the CSV."""


class Suspect(_Frozen):
    """An image whose label is likely wrong: models that were not trained on it are sure of another class."""

    path: str
    label: str
    suggested: str
    label_score: float
    """Cross-validated score of its label."""
    suggested_score: float
    is_likely: bool
    """Is the suggested class scored as high as images of it usually are?"""


class Evaluation(_Frozen):
    """A model's answers to labelled images, measured."""

    schema_version: Literal[1] = 1
    labels: tuple[str, ...]
    images: int
    accuracy: Estimate
    top_5: Estimate
    macro_f1: Estimate
    log_loss: Estimate
    """Mean negative natural logarithm of the label's score."""
    calibration: Calibration
    threshold: Threshold | None = None
    classes: tuple[ClassMetrics, ...]
    """The measures of each class, in the order of the labels."""
    slices: tuple[SliceMetrics, ...] = ()
    confusion: tuple[tuple[int, ...], ...]
    """Row: the label; column: the prediction; both in the order of the labels."""
    mistakes: tuple[Mistake, ...] = ()
    """The most confident first."""
