"""The page: what a run found, for whoever uses the predictions."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from beam_jobs.listing import left_out_in_words
from beam_jobs.report.course import Course
from beam_jobs.report.course_on_page import course_on_page
from beam_jobs.report.findings import BINS, Findings, Truth
from beam_jobs.report.training import Training
from beam_jobs.result_files import Answer, Fault, RunFacts
from serving.client.accuracy import wilson
from serving.contract import ModelContract
from serving.page.charts import FIRST, INK, svg
from serving.page.confusion_matrix import ConfusionMatrix, confusion_matrix
from serving.page.gallery import Figure
from serving.page.names import sentence, visible
from serving.page.template import environment
from serving.storage.base import shown

if TYPE_CHECKING:
    import markupsafe

_LABELS, _MORE_LABELS, _SHEETS, _REASONS, _CLASSES = 20, 500, 20, 12, 120
"""How many labels are seen at once and when asked for, have images, how many reasons do, and classes in the matrix."""
_LETTERS = 2000
"""How long an option's value may be, such as a thousand inputs, and a message."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunReport:
    """What the page tells."""

    run: RunFacts
    findings: Findings
    output: str
    changed: Sequence[str] = ()
    """What the files hold that run.json does not say."""
    contract: ModelContract | None = None
    """The model's; None where the run's own files are gone."""
    thumbnails: Mapping[str, str | None] | None = None
    """Data URIs by path; None for a page without thumbnails."""
    course: Course = dataclasses.field(default_factory=lambda: Course([]))
    """How the run went over time; of no chunks where it isn't known."""
    training: Training | None = None
    """What the model's folder says of its training, if it is there."""


def shown_images(findings: Findings) -> list[str]:
    """The paths of all images that the page has room for, the most telling ones first."""
    sheets = [images for _, images in findings.labels[:_SHEETS]]
    answers = [
        *findings.truth.mistakes,
        *findings.unsurest,
        *findings.unknown.surest,
        *(answer for images in sheets for answer in (*images.surest, *images.unsurest)),
    ]
    faults = [
        fault
        for verdict in ("rejected", "failed")
        for _, images in findings.reasons(verdict)[:_REASONS]
        for fault in images.some
    ]
    return [answer.path for answer in answers if answer.is_placed] + [fault.path for fault in faults]


def render(report: RunReport) -> str:
    """The page as HTML, one file that asks for nothing else."""
    findings, thumbnails = report.findings, report.thumbnails or {}

    def figures(answers: Iterable[Answer], caption: "Callable[[Answer], markupsafe.Markup]") -> list[Figure]:
        return [Figure(thumbnails.get(one.path), shown(one.path), caption(one)) for one in answers]

    def faults(some: Iterable[Fault]) -> list[Figure]:
        return [Figure(thumbnails.get(one.path), shown(one.path), _message(one)) for one in some]

    sheets = [
        (label, images, figures(images.surest, _score), figures(images.unsurest, _score))
        for label, images in findings.labels[:_SHEETS]
    ]
    faulty = [
        (verdict, [(reason, images.count, faults(images.some)) for reason, images in findings.reasons(verdict)])
        for verdict in ("rejected", "failed")
    ]
    return environment("beam_jobs.report").get_template("run.html").render(
        report=report,
        findings=findings,
        counts={verdict: findings.count(verdict) for verdict in ("rejected", "failed")},
        left_out=left_out_in_words(report.run.left_out),
        changed=report.changed,
        histogram=_histogram(findings),
        steps=[(number / BINS, (number + 1) / BINS, count) for number, count in enumerate(findings.histogram)],
        unsurest=figures(findings.unsurest, _label_and_score),
        unknown=figures(findings.unknown.surest, _label_and_score),
        sheets=sheets,
        faulty=[(verdict, reasons[:_REASONS], len(reasons) - _REASONS) for verdict, reasons in faulty if reasons],
        truth=_truth(findings.truth, figures) if findings.truth.images else None,
        not_in_model=findings.truth.count_outside(report.contract.labels) if report.contract else 0,
        course=course_on_page(report.course),
        has_thumbnails=any(thumbnails.values()),
        most_labels=_LABELS,
        more_labels=_MORE_LABELS,
        record=_record(report.run),
    )  # fmt: skip


def _message(fault: Fault) -> "markupsafe.Markup":
    import markupsafe

    return markupsafe.escape(visible(fault.message[:_LETTERS]))


def _score(answer: Answer) -> "markupsafe.Markup":
    return sentence("{:.3f}", answer.score)


def _label_and_score(answer: Answer) -> "markupsafe.Markup":
    return sentence("{} {:.3f}", answer.label, answer.score)


def _mistake(answer: Answer) -> "markupsafe.Markup":
    return sentence("is {}, scored {} {:.3f}", answer.true_label or "", answer.label, answer.score)


def _truth(
    truth: Truth, figures: "Callable[[Iterable[Answer], Callable[[Answer], markupsafe.Markup]], list[Figure]]"
) -> dict[str, Any]:
    labels, matrix = _matrix(truth)
    classes = [one for one in truth.labels if one.images]
    return {
        "accuracy": wilson(truth.right, truth.images),
        "sure": wilson(truth.sure_right, truth.sure) if truth.sure else None,
        "mistakes": figures(truth.mistakes, _mistake),
        "matrix": matrix,
        "matrix_labels": labels,
        "others": len(truth.labels) - len(labels),
        "classes": sorted(classes, key=lambda one: (one.recall or 0.0, -one.images, one.label)),
    }


def _matrix(truth: Truth) -> tuple[Sequence[str], ConfusionMatrix]:
    """The labels, and the matrix; of more labels than can be read, those that are taken for others most often."""
    labels = [one.label for one in truth.labels]
    if len(labels) > _CLASSES:
        wrong = dict.fromkeys(labels, 0)
        for (true_label, label), count in truth.confusion.items():
            if true_label != label:
                wrong[true_label] += count
                wrong[label] += count
        labels = sorted(sorted(labels, key=lambda label: -wrong[label])[:_CLASSES])
    place = {label: number for number, label in enumerate(labels)}
    counts = [[0] * len(labels) for _ in labels]
    for (true_label, label), count in truth.confusion.items():
        if true_label in place and label in place:
            counts[place[true_label]][place[label]] = count
    return labels, confusion_matrix(counts)


def _histogram(findings: Findings) -> str:
    def draw(axes: Any) -> None:
        places = [(number + 0.5) / BINS for number in range(BINS)]
        axes.bar(places, findings.histogram, width=0.9 / BINS, color=FIRST)
        if findings.threshold:
            axes.axvline(findings.threshold, color=INK, linewidth=1, linestyle=":")
        axes.set_xlim(0, 1)
        axes.set_xlabel("score of the best label")
        axes.set_ylabel("images")
        axes.yaxis.get_major_locator().set_params(integer=True)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")

    return svg(draw, "Number of images by score", (5.4, 2.5)) if findings.predicted else ""


def _record(run: RunFacts) -> list[tuple[str, str]]:
    """How the run was made: options that have a value, and versions of libraries."""
    options = [(name, _text(value)) for name, value in run.options.items()]
    return [(name, value) for name, value in options if value] + list(run.versions.items())


def _text(value: Any) -> str:
    """An option's value; of a URL without what may be a secret."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_text(one)}" for name, one in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value))[:_LETTERS]
    if isinstance(value, bool):
        return "yes" if value else ""
    return "" if value is None else shown(str(value))[:_LETTERS]
