"""The results of classifying images."""

import dataclasses
from typing import Any, Literal, NamedTuple, Self

from serving.client.scores import format_score
from serving.errors import NotClassified

Verdict = Literal["predicted", "rejected", "failed"]
"""`rejected` is the image's own fault (missing, damaged, too large), `failed` the system's with this one image."""


class LabelScore(NamedTuple):
    """A class of the model and its score for an image."""

    label: str
    score: float
    """A probability, 0..1, unless the model's outputs are taken as they are."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Classification:
    """The result for one image; one that could not be classified has no label, but a reason."""

    image: str | int
    """The path as it was given; for bytes and arrays the position among the images of the call, from 0."""
    verdict: Verdict
    top: tuple[LabelScore, ...] = ()
    """The best classes, highest score first, ties in the order of the labels; empty unless `predicted`."""
    reason: str = ""
    """One word for programs, such as `missing`, `not_an_image`, `too_large`, `refused`; empty if `predicted`."""
    message: str = ""
    """The reason in plain words, with what would help."""

    @property
    def ok(self) -> bool:
        """Does it have a label?"""
        return self.verdict == "predicted"

    @property
    def label(self) -> str | None:
        """The best class; None unless `predicted`."""
        return self.top[0].label if self.top else None

    @property
    def score(self) -> float | None:
        """The score of the best class; None unless `predicted`."""
        return self.top[0].score if self.top else None

    def raise_for_reason(self) -> Self:
        """The result itself, for a caller who wants an exception where an image has no label.

            label = client.classify("photo.jpg").raise_for_reason().label

        Raises:
          NotClassified: the image was rejected or failed; the message and `reason` say why.
        """
        if not self.ok:
            raise NotClassified(str(self), self.reason)
        return self

    def as_dict(self) -> dict[str, Any]:
        """The result as values for JSON: `image`, `verdict`, `label`, `score`, `top`, `reason`, `message`."""
        return {
            "image": self.image,
            "verdict": self.verdict,
            "label": self.label,
            "score": self.score,
            "top": [{"label": label, "score": score} for label, score in self.top],
            "reason": self.reason,
            "message": self.message,
        }

    def __repr__(self) -> str:
        return f"<Classification {self}>"

    def __str__(self) -> str:
        name = f"image {self.image}" if isinstance(self.image, int) else self.image
        if self.top:
            return f"{name}: {self.top[0].label} ({format_score(self.top[0].score)})"
        return f"{name}: {self.verdict}, {self.reason}: {self.message}"
