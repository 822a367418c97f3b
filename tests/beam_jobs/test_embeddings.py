"""Embeddings: what is kept of them, and the rows of their file in runs that are broken off, shared and retried."""

import base64
import contextlib
import csv
import dataclasses
import hashlib
import io
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from beam_jobs.chunk_predictor import ChunkOptions
from beam_jobs.embeddings import EmbeddingsTable, pack
from beam_jobs.memory import MIB, Allowance, resident
from beam_jobs.parts import Parts
from beam_jobs.predict_options import PredictOptions, Shard
from beam_jobs.results import EMBEDDINGS, Account
from beam_jobs.run import Run, merge_folder
from beam_jobs.table_files import Hashed
from beam_jobs.worker import ChunkWorker, WorkerSpec
from serving.contract import EMBEDDING_SIGNATURES, Embeddings
from serving.errors import DiskFull, ServerUnavailable, UsageError
from tests.beam_jobs.conftest import COUNT
from tests.beam_jobs.model_server import CONTRACT, GOLDEN, WITH_EMBEDDINGS, ModelServer, Refusal, embed, image

WIDE = 2**19
"""Numbers of an embedding of which a row group has 4."""


def written(rows: int, width: int) -> tuple[bytes, str]:
    file = io.BytesIO()
    hashed = Hashed(file)
    table = EmbeddingsTable(hashed, width, {"about": "tests"})
    for row in range(rows):
        table.write(f"{row}.jpg", pack(np.full(width, row / 8)))
    table.close()
    return file.getvalue(), hashed.sha256


def test_rows_come_back_whatever_their_row_group() -> None:
    data, sha256 = written(10, WIDE)
    assert hashlib.sha256(data).hexdigest() == sha256
    file = pyarrow.parquet.ParquetFile(io.BytesIO(data))
    assert [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)] == [4, 4, 2]
    table = file.read()
    assert table["path"].to_pylist() == [f"{row}.jpg" for row in range(10)]
    assert table.schema.field("embedding").type.value_type == pyarrow.float16()
    found = table["embedding"].combine_chunks().flatten().to_numpy().reshape(10, WIDE)
    np.testing.assert_array_equal(found, np.repeat(np.arange(10)[:, np.newaxis] / 8, WIDE, axis=1))


def test_the_same_rows_are_the_same_bytes_and_none_is_a_file_too() -> None:
    assert written(3, 5) == written(3, 5)
    empty = pyarrow.parquet.read_table(io.BytesIO(written(0, 5)[0]))
    assert (empty.num_rows, empty.column_names) == (0, ["path", "embedding"])


def test_a_number_beyond_float16_becomes_its_largest() -> None:
    packed = pack(np.array([1e6, -1e6, 0.1], np.float32))
    np.testing.assert_array_equal(
        np.frombuffer(base64.b64decode(packed), "<f2"), np.array([65504, -65504, 0.1], np.float16)
    )


MakeRun = Callable[..., Run]


@pytest.fixture
def make_run(model: ModelServer, images: Path, tmp_path: Path) -> MakeRun:
    """A run of the images in chunks of two that keeps embeddings, unless options say otherwise."""
    model.contract = WITH_EMBEDDINGS

    def make(**options: Any) -> Run:
        given: dict[str, Any] = {
            "inputs": (str(images),),
            "output": str(tmp_path / "out"),
            "embeddings": True,
            "batch_size": 2,
            "requests_in_flight": 1,
            "patience_s": 0,
            "deadline_s": 30,
        }
        return Run(PredictOptions(**given | options), lambda *_: contextlib.nullcontext(model.endpoint))

    return make


def predicted(output: Path) -> list[str]:
    with open(output / "predictions.csv", newline="", encoding="utf-8") as file:
        return [row["path"] for row in csv.DictReader(file)]


def check(output: Path) -> list[str]:
    """The paths, after the rows were compared with the predictions and with what the model gives."""
    table = pyarrow.parquet.read_table(output / EMBEDDINGS)
    paths: list[str] = table["path"].to_pylist()
    assert paths == predicted(output)
    expected = [embed(Path(path).read_bytes()) for path in paths]
    np.testing.assert_array_equal(table["embedding"].to_pylist(), np.array(expected, np.float16))
    about = json.loads(table.schema.metadata[b"flow_images"])
    assert about["model"] == json.loads((output / "run.json").read_text())["model"]
    return paths


def test_each_predicted_image_has_its_row_beside_the_predictions(
    make_run: MakeRun, images: Path, tmp_path: Path
) -> None:
    (images / "05broken.png").write_bytes(image(1)[:60])
    account = make_run().execute()
    assert account == Account(COUNT + 1, COUNT, 1, 0, 0, 0, 0, {})
    assert len(check(tmp_path / "out")) == COUNT
    assert json.loads((tmp_path / "out" / "run.json").read_text())["options"]["embeddings"] is True


def test_a_run_that_was_broken_off_has_the_bytes_of_an_unbroken_one(
    make_run: MakeRun, model: ModelServer, tmp_path: Path
) -> None:
    make_run(output=str(tmp_path / "unbroken")).execute()
    left = iter(range(5))

    def step(files: Sequence[bytes]) -> None:
        if files[0] not in GOLDEN and next(left, None) is None:
            raise Refusal(grpc.StatusCode.UNAVAILABLE, "going away")

    model.step = step
    with pytest.raises(ServerUnavailable):
        make_run().execute()
    model.step = lambda files: None
    make_run().execute()
    both = [(tmp_path / name / EMBEDDINGS).read_bytes() for name in ("unbroken", "out")]
    assert both[0] == both[1]
    check(tmp_path / "out")


def test_a_part_that_cannot_be_written_leaves_neither_rows_nor_embeddings(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:

        def write(*_: object) -> bool:
            raise DiskFull("no room")

        patched.setattr(Parts, "write", write)
        with pytest.raises(DiskFull):
            make_run().execute()
    assert not list((tmp_path / "out").glob("_state/parts/*/*"))
    make_run().execute()
    check(tmp_path / "out")


def test_a_retry_adds_the_rows_of_what_it_predicts(make_run: MakeRun, images: Path, tmp_path: Path) -> None:
    away = {name: (images / name).read_bytes() for name in ("03.png", "04.png", "11.png")}
    (tmp_path / "list.txt").write_text("".join(f"{path}\n" for path in sorted(images.iterdir())))
    for name in away:
        (images / name).unlink()
    inputs = [str(tmp_path / "list.txt")]
    make_run(inputs=inputs).execute()
    assert len(check(tmp_path / "out")) == COUNT - 3
    for name in ("03.png", "11.png"):
        (images / name).write_bytes(away[name])
    make_run(inputs=inputs, retry_failed=True).execute()
    assert len(check(tmp_path / "out")) == COUNT - 1
    (images / "04.png").write_bytes(away["04.png"])
    make_run(inputs=inputs, retry_failed=True).execute()
    assert len(check(tmp_path / "out")) == COUNT


def test_shards_write_one_file(make_run: MakeRun, tmp_path: Path) -> None:
    make_run(output=str(tmp_path / "alone")).execute()
    assert make_run(shard=Shard(0, 2)).execute() is None
    assert not (tmp_path / "out" / EMBEDDINGS).exists()
    assert make_run(shard=Shard(1, 2)).execute() is not None
    assert (tmp_path / "out" / EMBEDDINGS).read_bytes() == (tmp_path / "alone" / EMBEDDINGS).read_bytes()


def test_all_rejected_is_an_empty_file(make_run: MakeRun, images: Path, tmp_path: Path) -> None:
    for path in images.iterdir():
        path.write_bytes(b"<html>")
    make_run().execute()
    assert check(tmp_path / "out") == []


def test_embeddings_count_in_the_memory_of_a_request(spec: WorkerSpec, model: ModelServer) -> None:
    """Eight small images would go in one request; with answers of half a megabyte each goes alone."""
    embeddings = Embeddings(width=30_000, signatures={"encoded": EMBEDDING_SIGNATURES["encoded"]})
    model.contract = CONTRACT.model_copy(update={"embeddings": embeddings})
    sizes: list[int] = []
    model.step = lambda files: sizes.append(len(files))
    plan = spec.plan.model_copy(update={"model": spec.plan.model.model_copy(update={"contract": model.contract})})
    chunk = ChunkOptions(batch_size=4, readers=2, embeddings=True)
    scarce = Allowance(resident() + 118 * MIB)  # of which about 20 are for images and answers
    with ChunkWorker(dataclasses.replace(spec, plan=plan, chunk=chunk, memory=scarce)) as worker:
        assert worker.work(0) == {"predicted": 4}
    assert sizes == [1] * 4


@pytest.fixture
def complete(make_run: MakeRun, tmp_path: Path) -> Iterator[Path]:
    """The output of a complete run."""
    make_run().execute()
    yield tmp_path / "out"
    check(tmp_path / "out")


@pytest.mark.parametrize("change", [Path.unlink, lambda path: path.write_bytes(b"PAR1")], ids=["gone", "edited"])
def test_the_file_is_one_of_the_results(complete: Path, change: Callable[[Path], object]) -> None:
    before = (complete / EMBEDDINGS).read_bytes()
    change(complete / EMBEDDINGS)
    merge_folder(str(complete))
    assert (complete / EMBEDDINGS).read_bytes() == before


def test_a_file_that_is_gone_is_written_again_by_the_same_command(complete: Path, make_run: MakeRun) -> None:
    (complete / EMBEDDINGS).unlink()
    assert make_run().execute() is not None


def test_a_run_without_them_is_not_continued_with_them(complete: Path, make_run: MakeRun) -> None:
    with pytest.raises(UsageError, match="embeddings True there, False now"):
        make_run(embeddings=False).execute()


def test_a_fresh_run_without_them_leaves_none_of_the_old(make_run: MakeRun, tmp_path: Path) -> None:
    make_run().execute()
    make_run(embeddings=False, fresh=True).execute()
    assert not (tmp_path / "out" / EMBEDDINGS).exists()
    assert len(predicted(tmp_path / "out")) == COUNT


def test_a_model_without_embeddings_is_refused_before_anything_is_listed(
    make_run: MakeRun, model: ModelServer, tmp_path: Path
) -> None:
    model.contract = CONTRACT
    with pytest.raises(UsageError, match=r"`embeddings`: .* train it again with this release"):
        make_run().execute()
    assert model.asked == []
    assert not list((tmp_path / "out").rglob("*"))
