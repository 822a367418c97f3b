"""The page: what a model was measured to do, and on what, for whoever decides about it."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from serving.page.confusion_matrix import confusion_matrix
from serving.page.gallery import Figure
from serving.page.names import sentence
from serving.page.template import environment
from serving.page.thumbnails import thumbnail
from trainer.evaluation.evaluation import Evaluation, Suspect
from trainer.evaluation.gate_outcome import Gate
from trainer.images.data_card import DataCard
from trainer.progress import Epoch
from trainer.report.charts import curves, reliability

if TYPE_CHECKING:
    import markupsafe

    from trainer.head_search import HeadChoice

_MISTAKES, _SUSPECTS, _OF_A_GATE, _OF_A_GROUP, _GROUPS, _PATHS = 24, 24, 12, 4, 12, 50
"""How many are shown."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """What the page tells. All but the title and the evaluation may be missing."""

    title: str
    evaluation: Evaluation
    is_published: bool | None = None
    """None where nothing was to be published."""
    gates: Sequence[Gate] = ()
    history: Sequence[Epoch] = ()
    best_epoch: int | None = None
    choice: "HeadChoice | None" = None
    suspects: Sequence[Suspect] = ()
    card: DataCard | None = None
    groups: Mapping[str, str] = dataclasses.field(default_factory=dict)
    record: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Further facts, in their order: what, and its value."""
    notes: Sequence[str] = ()


def render(report: Report, read: Callable[[str], bytes] | None = None, *, upright: bool = False) -> str:
    """The page as HTML, one file that asks for nothing else.

    Args:
      report: what it tells.
      read: gives the bytes of an image by its path, for thumbnails; None to show none.
      upright: whether images are turned by their EXIF tag, as the model sees them.
    """
    sources: dict[str, str | None] = {}

    def figures(paths: Iterable[str], captions: "Mapping[str, markupsafe.Markup]") -> list[Figure]:
        found = []
        for path in paths:
            if path not in sources:  # a mistake is often an image of a failed gate, too
                sources[path] = _source(path, read, upright)
            found.append(Figure(sources[path], path, captions.get(path)))
        return found

    evaluation = report.evaluation
    mistakes = {
        one.path: sentence("is {}, scored {} {:.2f}", one.label, one.predicted, one.score)
        for one in evaluation.mistakes
    }
    likely = [one for one in report.suspects if one.is_likely]
    suspects = {
        one.path: sentence("labelled {}, looks like {} {:.2f}", one.label, one.suggested, one.suggested_score)
        for one in likely[:_SUSPECTS]
    }
    groups = report.card.near_duplicates[:_GROUPS] if report.card else ()
    return environment("trainer.report").get_template("report.html").render(
        report=report,
        evaluation=evaluation,
        failed=[gate for gate in report.gates if not gate.passed],
        gate_figures={gate.name: figures(gate.images[:_OF_A_GATE], mistakes) for gate in report.gates},
        curves=curves(report.history, report.best_epoch) if report.history else "",
        reliability=reliability(evaluation.calibration),
        matrix=confusion_matrix(evaluation.confusion),
        mistakes=figures(list(mistakes)[:_MISTAKES], mistakes),
        likely=len(likely),
        suspects=figures(suspects, suspects),
        classes=sorted(evaluation.classes, key=lambda one: (one.recall is None, one.recall, one.label)),
        slices=[one for one in evaluation.slices if one.column != "label"],
        alike=[figures(group[:_OF_A_GROUP], {}) for group in groups],
        most_paths=_PATHS,
    )  # fmt: skip


def _source(path: str, read: Callable[[str], bytes] | None, upright: bool) -> str | None:
    if read is None:
        return None
    try:
        return thumbnail(read(path), upright)
    except OSError:
        return None
