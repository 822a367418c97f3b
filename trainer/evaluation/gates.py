"""Gates: conditions under which a model is blessed, and may be published (TFX: evaluate, bless, push)."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from serving.errors import UsageError
from trainer.evaluation.evaluation import Estimate, Evaluation
from trainer.evaluation.gate_outcome import Gate
from trainer.evaluation.metrics import slice_values
from trainer.images.labelled_images import LabelledImage
from trainer.train_options import TrainJob

LEAST_SLICE = 10
"""Test images of a slice, below which its accuracy says too little to stop a model."""
_LEAST_COMPARED = 10
"""Test images that two versions are compared on at the least."""
_IMAGES = 100


class InService(NamedTuple):
    """The version in service, beside the new one, on the test images that it was not trained on."""

    version: int
    images: int
    """How many both were asked about."""
    left_out: int
    """Test images that it was trained on, or that show a class which it hasn't."""
    accuracy: float
    new_accuracy: float
    """The accuracy of the new model on the same images."""
    lost: tuple[str, ...]
    """Paths of images that it has right, and the new one wrong."""


def check_slices(images: Sequence[LabelledImage], job: TrainJob) -> None:
    """Tells before anything is trained that `min_slice_accuracy` can't be judged.

    Args:
      images: that will be tested on.
      job: the gates' options.

    Raises:
      UsageError: no class and no value of a column has enough of them.
    """
    if job.min_slice_accuracy is None:
        return
    largest = max(Counter(values).most_common(1)[0][1] for values in slice_values(images).values())
    if largest < LEAST_SLICE:
        raise UsageError(
            f"`min_slice_accuracy` judges classes, and values of a column, with at least {LEAST_SLICE} test images; "
            f"the largest has {largest}: raise `test_share`, add images, or leave it out"
        )


def judge(
    evaluation: Evaluation, job: TrainJob, *, control_accuracy: float | None, in_service: InService | None
) -> list[Gate]:
    """The outcome of each gate that the job asks for.

    Args:
      evaluation: of the test images.
      job: the gates' options.
      control_accuracy: of a model trained on shuffled labels, for `min_lift`.
      in_service: for `max_regression`; None where no version is in service, which passes.
    """
    wrong = [mistake.path for mistake in evaluation.mistakes]
    return [*_accuracy(evaluation, job, wrong), *_lift(evaluation, job, control_accuracy, wrong),
            *_regression(job, in_service), *_slices(evaluation, job)]  # fmt: skip


def _accuracy(evaluation: Evaluation, job: TrainJob, wrong: Sequence[str]) -> Iterator[Gate]:
    if job.min_accuracy is not None:
        passed = evaluation.accuracy.value >= job.min_accuracy
        found = f"{_shown(evaluation.accuracy)} on {evaluation.images:,} images"
        yield _gate("min_accuracy", passed, f"at least {job.min_accuracy:.3f}", found, wrong)


def _lift(evaluation: Evaluation, job: TrainJob, control: float | None, wrong: Sequence[str]) -> Iterator[Gate]:
    if job.min_lift is not None and control is not None:
        lift = evaluation.accuracy.value - control
        found = f"{lift:.3f}: {evaluation.accuracy.value:.3f}, and {control:.3f} with shuffled labels"
        yield _gate("min_lift", lift >= job.min_lift, f"at least {job.min_lift:.3f} above a control", found, wrong)


def _regression(job: TrainJob, in_service: InService | None) -> Iterator[Gate]:
    if job.max_regression is None:
        return
    wanted = f"at most {job.max_regression:.3f} below the version in service"
    if in_service is None:
        yield _gate("max_regression", True, wanted, "no version is in service", ())
        return
    left_out = ""
    if in_service.left_out:
        left_out = f"; {in_service.left_out:,} are left out, because it was trained on them or has no class for them"
    if in_service.images < _LEAST_COMPARED:
        found = f"only {in_service.images:,} test images to compare on with version {in_service.version}{left_out}"
        yield _gate("max_regression", False, wanted, found, ())
        return
    loss = in_service.accuracy - in_service.new_accuracy
    found = (
        f"{in_service.new_accuracy:.3f}, and {in_service.accuracy:.3f} of version {in_service.version}, on "
        f"{in_service.images:,} images{left_out}"
    )
    yield _gate("max_regression", loss <= job.max_regression + 1e-12, wanted, found, in_service.lost)


def _slices(evaluation: Evaluation, job: TrainJob) -> Iterator[Gate]:
    if job.min_slice_accuracy is None:
        return
    judged = [one for one in evaluation.slices if one.images >= LEAST_SLICE]
    low = sorted(
        (one for one in judged if one.accuracy.value < job.min_slice_accuracy), key=lambda one: one.accuracy.value
    )
    if not judged:
        found = f"no slice has {LEAST_SLICE} test images"
    elif low:
        found = "; ".join(
            f"{one.column} {one.value!r}: {_shown(one.accuracy)} on {one.images:,} images" for one in low[:5]
        ) + (f"; and {len(low) - 5} more" if len(low) > 5 else "")
    else:
        found = f"{min(one.accuracy.value for one in judged):.3f} in the lowest of {len(judged):,} slices"
    missed = {(one.column, one.value) for one in low}
    images = [
        mistake.path for mistake in evaluation.mistakes if missed & {("label", mistake.label), *mistake.columns.items()}
    ]
    yield _gate("min_slice_accuracy", bool(judged) and not low, f"at least {job.min_slice_accuracy:.3f} in each slice "
                f"of at least {LEAST_SLICE} images", found, images)  # fmt: skip


def _gate(name: str, passed: bool, wanted: str, found: str, images: Sequence[str]) -> Gate:
    return Gate(name, passed, wanted, found, () if passed else tuple(images[:_IMAGES]))


def _shown(estimate: Estimate) -> str:
    return f"{estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f})"
