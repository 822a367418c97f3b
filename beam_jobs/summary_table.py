"""Prints what a run found, from what run.json says."""

from collections.abc import Mapping
from typing import Any

from beam_jobs.progress_log import Work
from beam_jobs.summary import Summary
from serving.client.accuracy import Share, accuracy_in_words, confusions_in_words
from serving.client.scores import format_score
from serving.console.terminal import printable, say, show_table

_LABELS = 10


def print_summary(run: Mapping[str, Any], work: Work | None = None) -> None:
    """Prints it; at most a screen.

    Args:
      run: what run.json says.
      work: what this process did of it.
    """
    summary, model = Summary.model_validate(run.get("summary", {})), run["model"]
    say(f"{model['name']} version {model['version']}{_work_in_words(work) if work else ''}")
    if summary.labels:
        _print_labels(summary)
    if unknown := summary.unknown:
        images = "image" if unknown.count == 1 else "images"
        say(f"unknown: {unknown.count:,} {images} with a score below the threshold {unknown.threshold:g}")
    for fault in summary.faults:
        say(f"{fault.verdict}: {fault.count:,} {fault.reason}, such as {fault.example}")
    if found := summary.accuracy:
        say(accuracy_in_words(Share(found.value, found.low, found.high), found.images, "labelled images"))
        if foreign := summary.not_in_model:
            say(f"{foreign:,} of them have labels that the model doesn't know, so they count as wrong")
        if summary.unknown and (sure := summary.unknown.accuracy):
            words = accuracy_in_words(
                Share(sure.value, sure.low, sure.high), sure.images, "of them that are not unknown"
            )
            say(words)
    if summary.confusions:
        say(confusions_in_words([(one.label, one.taken_for, one.count) for one in summary.confusions]))


def _work_in_words(work: Work) -> str:
    rate = f", {work.images / work.seconds:,.1f} a second" if work.seconds > 0 else ""
    before = f"; {work.before:,} were done before" if work.before else ""
    return f": {work.images:,} images in {work.seconds:,.1f} s{rate}{before}"


def _print_labels(summary: Summary) -> None:
    from rich import box
    from rich.table import Column, Table

    table = Table(
        "label", Column("images", justify="right"), Column("mean score", justify="right"), box=box.SIMPLE_HEAD,
        pad_edge=False,
    )  # fmt: skip
    for one in summary.labels[:_LABELS]:
        table.add_row(printable(one.label), f"{one.count:,}", format_score(one.mean_score))
    show_table(table)
    if more := summary.labels[_LABELS:]:
        say(f"and {len(more):,} more labels ({sum(one.count for one in more):,} images)")
