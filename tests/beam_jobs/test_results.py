"""The account over random verdicts, retries and shards; and what the CSVs keep of any name."""

import csv
import time
from collections import Counter
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from beam_jobs import results
from beam_jobs.listing import Listed
from beam_jobs.parts import BrokenPart, Outcome, Verdict
from beam_jobs.plan import Plan, RunFolder
from beam_jobs.predict_options import OutputOptions
from beam_jobs.remaining_work import remaining_retries, remaining_work
from beam_jobs.results import Account, Incomplete
from beam_jobs.run import merge_folder
from serving.client.scores import rank
from serving.errors import FlowImagesError
from tests.beam_jobs.runs import CONTRACT, numbered, outcome, planned, predict_all

texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8) | st.sampled_from(
    ["=1+1", '"', "a,b", "a\nb", "\r", " ", "\ufeff", "'", "@x", "\u2028", "\x1c", "犬"]
)


verdicts = st.sampled_from(get_args(Verdict))


@settings(max_examples=60, suppress_health_check=[HealthCheck.data_too_large])
@given(st.lists(verdicts, min_size=1, max_size=40), st.integers(1, 5), st.integers(1, 4), st.data())
def test_the_account_balances_whatever_becomes_of_the_rows(
    tmp_path_factory: pytest.TempPathFactory, first: list[Verdict], chunk_rows: int, shards: int, data: st.DataObject
) -> None:
    """Every row ends in exactly one CSV, by the last word on it, over shards and retries in any order."""
    folder, plan = planned(tmp_path_factory.mktemp("run"), numbered(len(first)), chunk_rows=chunk_rows)
    parts = folder.parts(plan)
    last, rows = list(first), plan.manifest.chunk_rows
    todo = remaining_work(plan, parts)
    for shard in data.draw(st.permutations(range(shards))):
        for chunk in todo.share(shard, shards).rows:
            numbers = range(chunk * rows, chunk * rows + plan.manifest.rows_in(chunk))
            assert parts.write(0, chunk, [outcome(i - chunk * rows, first[i]) for i in numbers])
            assert not parts.write(0, chunk, [])
    for _ in range(data.draw(st.integers(0, 3))):
        todo = remaining_retries(plan, parts, lambda chunk, rejected: set())
        if not todo.rows:
            assert "failed" not in last
            break
        for chunk in todo.rows:
            again = [i for i in range(chunk * rows, min((chunk + 1) * rows, len(last))) if last[i] == "failed"]
            assert len(again) == todo.rows[chunk]
            for i in again:
                last[i] = data.draw(verdicts)
            parts.write(todo.generation, chunk, [outcome(i - chunk * rows, last[i]) for i in again])
    found = Account.of(results.merge(folder, plan, {}))
    counts = Counter(last)
    assert found.balanced
    assert (found.predicted, found.rejected, found.failed) == tuple(counts[verdict] for verdict in get_args(Verdict))
    for name, verdict in (("predictions", "predicted"), ("rejected", "rejected"), ("failed", "failed")):
        with open(Path(folder.output) / f"{name}.csv", newline="") as file:
            paths = [row["path"] for row in csv.DictReader(file)]
        assert paths == [f"{i:03}.jpg" for i in range(len(last)) if last[i] == verdict]


@settings(max_examples=100)
@given(
    st.dictionaries(texts, st.tuples(texts, texts), min_size=1, max_size=12), st.lists(texts, min_size=2, unique=True)
)
def test_names_ids_and_labels_come_back_unaltered(
    tmp_path_factory: pytest.TempPathFactory, images: dict[str, tuple[str, str]], labels: list[str]
) -> None:
    listed = [Listed(path, None, id_, label) for path, (id_, label) in images.items()]
    folder, plan = planned(tmp_path_factory.mktemp("run"), listed, CONTRACT.model_copy(update={"labels": labels}))
    predict_all(folder, plan)
    results.merge(folder, plan, {})
    with open(Path(folder.output) / "predictions.csv", newline="", encoding="utf-8") as file:
        found = list(csv.reader(file))[1:]
    assert [(row[0], row[-2], row[-1]) for row in found] == [(path, *images[path]) for path in sorted(images)]
    assert {row[1] for row in found} <= set(labels)


@pytest.mark.parametrize("format_", ["csv", "kaggle"])
def test_no_score_becomes_0_on_its_way_to_the_file(tmp_path: Path, format_: Literal["csv", "kaggle"]) -> None:
    three = CONTRACT.model_copy(update={"labels": ["a", "b", "c"]})
    folder, plan = planned(tmp_path, [Listed("0.jpg"), Listed("1.jpg")], three, format_=format_)
    scores = rank(np.array([8e-9, 1 - 8e-9, 1e-38], np.float32), 0 if format_ == "kaggle" else 2)
    parts = folder.parts(plan)
    parts.write(0, 0, [Outcome(0, "predicted", *scores), Outcome(1, "rejected", reason="missing")])
    results.merge(folder, plan, {})
    with open(Path(folder.output) / "predictions.csv", newline="") as file:
        found = list(csv.reader(file))[1:]
    if format_ == "csv":
        assert found == [["0.jpg", "b", "1.000000", "a", "8e-09"]]
    else:
        assert found == [["0", "8e-09", "1.000000", "1e-38"], ["1", "0.333333", "0.333333", "0.333333"]]


def part(run: tuple[RunFolder, Plan], chunk: int) -> Path:
    folder, plan = run
    return Path(folder.parts(plan).folder) / f"0-{chunk:08}.jsonl"


def test_run_json_is_written_last(finished: tuple[RunFolder, Plan], monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise OSError("killed here")

    monkeypatch.setattr(results, "_write_run", fails)
    with pytest.raises(FlowImagesError):
        merge_folder(finished[0].output)
    assert (Path(finished[0].output) / "predictions.csv").exists()
    assert not (Path(finished[0].output) / "run.json").exists()


def test_paths_that_are_not_accounted_for_are_named(finished: tuple[RunFolder, Plan]) -> None:
    lines = part(finished, 1).read_text().splitlines(keepends=True)
    part(finished, 1).write_text("".join(lines[:2]))
    with pytest.raises(BrokenPart, match=r"Not accounted for: 004\.jpg, 005\.jpg, 006\.jpg, 007\.jpg$") as error:
        merge_folder(finished[0].output)
    assert error.value.exit_code == 1
    assert not (Path(finished[0].output) / "run.json").exists()


def test_a_lost_part_is_to_be_done_again(finished: tuple[RunFolder, Plan]) -> None:
    part(finished, 2).unlink()
    with pytest.raises(Incomplete, match=r"2 of 10 images have no outcome yet \(008\.jpg, 009\.jpg") as error:
        merge_folder(finished[0].output)
    assert error.value.exit_code == 75


def test_merging_twice_gives_the_same(finished: tuple[RunFolder, Plan]) -> None:
    output = Path(finished[0].output)
    written = [*merge_folder(finished[0].output).files, "run.json"]
    first = [(output / name).read_bytes() for name in written]
    begun = int(time.time())
    while int(time.time()) == begun:  # run.json has whole seconds
        time.sleep(0.01)
    merge_folder(finished[0].output)
    assert [(output / name).read_bytes() for name in written] == first


def names(output: Path) -> set[str]:
    return {path.name for path in output.iterdir() if path.is_file()}


def test_a_retry_keeps_the_forms_that_were_chosen_last(tmp_path: Path) -> None:
    folder, plan = planned(tmp_path / "out", numbered(2))
    parts, output = folder.parts(plan), tmp_path / "out"
    parts.write(0, 0, [outcome(0, "predicted"), outcome(1, "failed")])
    merge_folder(str(output))
    merge_folder(str(output), given=OutputOptions(format=("jsonl",), threshold=0.9))
    (todo,) = remaining_retries(plan, parts, lambda chunk, rejected: set()).rows
    parts.write(1, todo, [outcome(1, "predicted")])
    run = merge_folder(str(output)).run
    assert (run["options"]["format"], run["options"]["threshold"]) == ("jsonl", 0.9)
    assert names(output) == {"predictions.jsonl", "rejected.csv", "failed.csv", "run.json"}
    assert len((output / "predictions.jsonl").read_text().splitlines()) == 2


def test_what_a_broken_off_merge_wrote_in_another_form_is_cleared_away(
    finished: tuple[RunFolder, Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise OSError("killed here")

    output = Path(finished[0].output)
    (output / "submission.csv").write_text("a user's own")
    with monkeypatch.context() as patched:
        patched.setattr(results, "keep_finished", fails)
        with pytest.raises(FlowImagesError):
            merge_folder(str(output), given=OutputOptions(format=("jsonl", "parquet")))
    assert {"predictions.jsonl", "predictions.parquet"} <= names(output)
    assert "run.json" not in names(output)
    merge_folder(str(output))
    assert names(output) == {"predictions.csv", "rejected.csv", "failed.csv", "run.json", "submission.csv"}
