"""The account over random verdicts, retries and shards; and what the CSVs keep of any name."""

import csv
import datetime
import io
import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from beam_jobs import results
from beam_jobs.inputs import Listed
from beam_jobs.manifest import build_manifest
from beam_jobs.parts import BrokenPart, Outcome, Verdict
from beam_jobs.plan import Plan, PlannedModel, ResultOptions, RunFolder
from beam_jobs.remaining import remaining_retries, remaining_work
from beam_jobs.results import Incomplete
from beam_jobs.run import merge_folder
from serving.contract import ModelContract, Preprocessing
from serving.errors import FlowImagesError
from serving.scores import rank
from serving.storage.disk import Disk

texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8) | st.sampled_from(
    ["=1+1", '"', "a,b", "a\nb", "\r", " ", "\ufeff", "'", "@x", "\u2028", "\x1c", "犬"]
)


def planned(folder: Path, pictures: list[Listed], labels: list[str], *, chunk_rows: int = 4,
            format_: Literal["csv", "kaggle"] = "csv") -> tuple[RunFolder, Plan]:  # fmt: skip
    """A run's folder before its first part."""
    buffer = io.BytesIO()
    manifest = build_manifest(pictures, buffer, batch_size=chunk_rows, shards=1, unique_ids=False)
    run = RunFolder(Disk(), str(folder))
    run.storage.create(run.manifest_path(manifest), buffer.getvalue())
    contract = ModelContract(labels=labels, preprocessing=Preprocessing(height=8, width=8))
    options = ResultOptions(inputs=["x"], wire="encoded", top_k=2, format=format_, max_image_bytes=1,
                            max_image_pixels=1, shards=1)  # fmt: skip
    model = PlannedModel(name="m", version=1, contract=contract)
    plan = Plan(started=datetime.datetime.now(datetime.UTC), options=options, model=model, manifest=manifest)
    return run, run.adopt_plan(plan)


def outcome(row: int, verdict: Verdict) -> Outcome:
    if verdict == "predicted":
        return Outcome(row, verdict, [row % 2, 1 - row % 2], [0.75, 0.25])
    return Outcome(row, verdict, stage="predict", reason="refused", message=f'row "{row}",\n=x')


verdicts = st.sampled_from(get_args(Verdict))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.data_too_large])
@given(st.lists(verdicts, min_size=1, max_size=40), st.integers(1, 5), st.integers(1, 4), st.data())
def test_the_account_balances_whatever_becomes_of_the_rows(
    tmp_path_factory: pytest.TempPathFactory, first: list[Verdict], chunk_rows: int, shards: int, data: st.DataObject
) -> None:
    """Every row ends in exactly one CSV, by the last word on it, over shards and retries in any order."""
    pictures = [Listed(f"{i:03}.jpg") for i in range(len(first))]
    folder, plan = planned(tmp_path_factory.mktemp("run"), pictures, ["a", "b"], chunk_rows=chunk_rows)
    parts = folder.parts(plan)
    last, rows = list(first), plan.manifest.chunk_rows
    todo = remaining_work(plan, parts)
    for shard in data.draw(st.permutations(range(shards))):
        for chunk in todo.share(shard, shards).rows:
            numbers = range(chunk * rows, chunk * rows + plan.manifest.rows_in(chunk))
            assert parts.write(0, chunk, [outcome(i - chunk * rows, first[i]) for i in numbers])
            assert not parts.write(0, chunk, [])
    for _ in range(data.draw(st.integers(0, 3))):
        todo = remaining_retries(plan, parts)
        if not todo.rows:
            assert "failed" not in last
            break
        for chunk in todo.rows:
            again = [i for i in range(chunk * rows, min((chunk + 1) * rows, len(last))) if last[i] == "failed"]
            assert len(again) == todo.rows[chunk]
            for i in again:
                last[i] = data.draw(verdicts)
            parts.write(todo.generation, chunk, [outcome(i - chunk * rows, last[i]) for i in again])
    found = results.merge(folder, plan, {})
    counts = Counter(last)
    assert found.balanced
    assert (found.predicted, found.rejected, found.failed) == tuple(counts[verdict] for verdict in get_args(Verdict))
    for name, verdict in (("predictions", "predicted"), ("rejected", "rejected"), ("failed", "failed")):
        with open(Path(folder.output) / f"{name}.csv", newline="") as file:
            paths = [row["path"] for row in csv.DictReader(file)]
        assert paths == [f"{i:03}.jpg" for i in range(len(last)) if last[i] == verdict]


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(texts, st.tuples(texts, texts), min_size=1, max_size=12), st.lists(texts, min_size=2, unique=True)
)
def test_names_ids_and_labels_come_back_unaltered(
    tmp_path_factory: pytest.TempPathFactory, pictures: dict[str, tuple[str, str]], labels: list[str]
) -> None:
    listed = [Listed(path, None, id_, label) for path, (id_, label) in pictures.items()]
    folder, plan = planned(tmp_path_factory.mktemp("run"), listed, labels)
    parts = folder.parts(plan)
    for chunk in range(plan.manifest.chunks):
        parts.write(0, chunk, [outcome(row, "predicted") for row in range(plan.manifest.rows_in(chunk))])
    results.merge(folder, plan, {})
    with open(Path(folder.output) / "predictions.csv", newline="", encoding="utf-8") as file:
        found = list(csv.reader(file))[1:]
    assert [(row[0], row[-2], row[-1]) for row in found] == [(path, *pictures[path]) for path in sorted(pictures)]
    assert {row[1] for row in found} <= set(labels)


@pytest.mark.parametrize("format_", ["csv", "kaggle"])
def test_no_score_becomes_0_on_its_way_to_the_file(tmp_path: Path, format_: Literal["csv", "kaggle"]) -> None:
    folder, plan = planned(tmp_path, [Listed("0.jpg"), Listed("1.jpg")], ["a", "b", "c"], format_=format_)
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


@pytest.fixture
def run(tmp_path: Path) -> tuple[RunFolder, Plan]:
    """A finished run of ten pictures in chunks of four."""
    folder, plan = planned(tmp_path, [Listed(f"{i}.jpg") for i in range(10)], ["a", "b"])
    parts = folder.parts(plan)
    for chunk in range(3):
        parts.write(0, chunk, [outcome(row, "predicted") for row in range(plan.manifest.rows_in(chunk))])
    return folder, plan


def part(run: tuple[RunFolder, Plan], chunk: int) -> Path:
    folder, plan = run
    return Path(folder.parts(plan).folder) / f"0-{chunk:08}.jsonl"


def test_run_json_is_written_last(run: tuple[RunFolder, Plan], monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise OSError("killed here")

    monkeypatch.setattr(results, "_write_run", fails)
    with pytest.raises(FlowImagesError):
        merge_folder(run[0].output)
    assert (Path(run[0].output) / "predictions.csv").exists()
    assert not (Path(run[0].output) / "run.json").exists()


def test_paths_that_are_not_accounted_for_are_named(run: tuple[RunFolder, Plan]) -> None:
    lines = part(run, 1).read_text().splitlines(keepends=True)
    part(run, 1).write_text("".join(lines[:2]))
    with pytest.raises(BrokenPart, match=r"Not accounted for: 4\.jpg, 5\.jpg, 6\.jpg, 7\.jpg$") as error:
        merge_folder(run[0].output)
    assert error.value.exit_code == 1
    assert not (Path(run[0].output) / "run.json").exists()


@pytest.mark.parametrize(
    "change",
    [lambda text: text + text.splitlines()[0] + "\n", lambda text: text.replace("0.75", "0.76", 1),
     lambda text: text[:-9], lambda text: "", lambda text: "\n".join(text.splitlines()[::-1])],
    ids=["repeated", "score", "cut", "empty", "order"],
)  # fmt: skip
def test_a_changed_part_is_found_out(run: tuple[RunFolder, Plan], change: object) -> None:
    part(run, 0).write_text(change(part(run, 0).read_text()))  # type: ignore[operator]
    with pytest.raises(BrokenPart):
        merge_folder(run[0].output)


def test_a_part_in_another_ones_place_is_found_out(run: tuple[RunFolder, Plan]) -> None:
    shutil.copy(part(run, 0), part(run, 1))
    with pytest.raises(BrokenPart, match="0-00000001"):
        merge_folder(run[0].output)


def test_parts_of_another_run_are_never_taken_for_ones_own(run: tuple[RunFolder, Plan]) -> None:
    """As an interrupted --fresh leaves them, or a process that does not know of it."""
    folder, _ = run
    (Path(folder.state) / "plan.json").unlink()
    _, plan = planned(Path(folder.output), [Listed(f"{i}.jpg") for i in range(10)], ["a", "b"])
    assert remaining_work(plan, folder.parts(plan)).rows == {0: 4, 1: 4, 2: 2}
    with pytest.raises(Incomplete):
        merge_folder(folder.output)


def test_a_damaged_list_of_a_retry_is_made_again(run: tuple[RunFolder, Plan]) -> None:
    folder, plan = run
    parts = folder.parts(plan)
    part(run, 2).unlink()
    parts.write(0, 2, [outcome(0, "failed"), outcome(1, "predicted")])
    todo = remaining_retries(plan, parts)
    listed = Path(parts.folder) / "generation-1.json"
    listed.write_text(listed.read_text()[:-1])
    with pytest.raises(BrokenPart, match=r"generation-1\.json is damaged: delete it"):
        remaining_retries(plan, parts)
    listed.unlink()
    assert remaining_retries(plan, parts) == todo == (1, {2: 1})


def test_a_lost_part_is_to_be_done_again(run: tuple[RunFolder, Plan]) -> None:
    part(run, 2).unlink()
    with pytest.raises(Incomplete, match=r"2 of 10 pictures have no outcome yet \(8\.jpg, 9\.jpg") as error:
        merge_folder(run[0].output)
    assert error.value.exit_code == 75


@pytest.mark.parametrize("change", [lambda data: data[:-20], lambda data: data.replace(b"3.jpg", b"x.jpg")])
def test_a_changed_manifest_is_found_out(run: tuple[RunFolder, Plan], change: Callable[[bytes], bytes]) -> None:
    manifest = Path(run[0].manifest_path(run[1].manifest))
    manifest.write_bytes(change(manifest.read_bytes()))
    with pytest.raises(FlowImagesError, match="was changed"):
        merge_folder(run[0].output)


def test_a_manifest_that_is_gone_is_said(run: tuple[RunFolder, Plan]) -> None:
    Path(run[0].manifest_path(run[1].manifest)).unlink()
    with pytest.raises(FlowImagesError, match=r"is gone.*--fresh"):
        merge_folder(run[0].output)


def test_merging_twice_gives_the_same(run: tuple[RunFolder, Plan]) -> None:
    output = Path(run[0].output)
    merge_folder(run[0].output)
    first = (output / "predictions.csv").read_bytes(), json.loads((output / "run.json").read_text())
    merge_folder(run[0].output)
    second = (output / "predictions.csv").read_bytes(), json.loads((output / "run.json").read_text())
    for one in (first[1], second[1]):
        del one["finished"], one["seconds"]
    assert first == second
