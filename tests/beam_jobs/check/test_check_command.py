"""The command: what it prints, and its exit codes."""

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from pyarrow import parquet

from beam_jobs.check.check_command import check
from beam_jobs.predict_command import predict
from serving.errors import UsageError
from tests.beam_jobs.conftest import COUNT
from tests.beam_jobs.model_server import NAME, WITH_EMBEDDINGS, ModelServer


@pytest.fixture
def output(model: ModelServer, images: Path, tmp_path: Path) -> Path:
    """A run as the job itself writes it, in two forms and with facts of the images."""
    (images / "broken.png").write_bytes(b"no image")
    words = ["--input", str(images), "--output", f"{tmp_path}/out", "--server", model.address, "--model-name", NAME]
    more = ["--format", "csv,parquet", "--columns", "width,sha256,taken", "--threshold", "0.7", "--quiet"]
    done = CliRunner().invoke(predict, [*words, *more])
    assert done.exit_code == 0, done.output
    return tmp_path / "out"


def test_a_run_of_the_job_is_right(output: Path) -> None:
    done = CliRunner().invoke(check, [str(output)])
    assert done.exit_code == 0, done.output
    assert done.stdout == (
        f"{COUNT + 1} listed = {COUNT} predicted + 1 rejected + 0 failed\n"
        "checked: predictions.csv, predictions.parquet, rejected.csv, failed.csv, run.json\n"
        "all is right\n"
    )


def test_a_copy_without_state_says_what_could_not_be_checked(output: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(output, copy, ignore=shutil.ignore_patterns("_state"))
    done = CliRunner().invoke(check, [str(copy)])
    assert done.exit_code == 0, done.output
    assert "not checked, as it is not there to compare with: the list of the images" in done.stdout
    assert done.stdout.endswith("what could be checked is right\n")


def test_the_first_wrong_row_of_each_file_is_said(output: Path) -> None:
    path = output / "predictions.csv"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:4], *lines[5:]]))
    (output / "rejected.csv").write_text("")
    done = CliRunner().invoke(check, [str(output)])
    assert done.exit_code == 1
    assert done.stderr.splitlines() == [
        f"flow-images: predictions.csv, row 5: it is about {output.parent}/in/04.png, where {output.parent}/in/03.png "
        "belongs by its part",
        "flow-images: rejected.csv: it is empty, without the names of its columns",
        "wrong: `flow-images merge` writes all results again from the parts",
    ]


def test_a_folder_without_a_run_is_wrong_usage(tmp_path: Path) -> None:
    assert isinstance(CliRunner().invoke(check, [str(tmp_path)]).exception, UsageError)
    assert isinstance(CliRunner().invoke(check, [""]).exception, UsageError)


@pytest.fixture
def embedded(model: ModelServer, images: Path, tmp_path: Path) -> Path:
    """A run that keeps embeddings."""
    model.contract = WITH_EMBEDDINGS
    words = ["--input", str(images), "--output", f"{tmp_path}/out", "--server", model.address, "--model-name", NAME]
    done = CliRunner().invoke(predict, [*words, "--embeddings", "--quiet"])
    assert done.exit_code == 0, done.output
    return tmp_path / "out"


@pytest.mark.parametrize("has_state", [True, False], ids=["whole", "without-state"])
def test_embeddings_are_those_of_the_parts_in_the_order_of_the_predictions(embedded: Path, has_state: bool) -> None:
    if not has_state:
        shutil.rmtree(embedded / "_state")
    done = CliRunner().invoke(check, [str(embedded)])
    assert done.exit_code == 0, done.output
    assert "embeddings.parquet" in done.stdout
    path = embedded / "embeddings.parquet"
    table = parquet.read_table(path)
    order = [1, 0, *range(2, COUNT)]
    parquet.write_table(table.take(order), path)
    done = CliRunner().invoke(check, [str(embedded)])
    assert done.exit_code == 1
    assert "flow-images: embeddings.parquet, row 1: it is about " in done.stderr
    swapped = table.set_column(1, table.schema.field(1), table.column(1).take(order))
    parquet.write_table(swapped, path)
    done = CliRunner().invoke(check, [str(embedded)])
    if has_state:
        assert done.exit_code == 1
        assert "flow-images: embeddings.parquet, row 1: embedding is " in done.stderr
    else:  # which nothing else tells
        assert done.exit_code == 0, done.output
