"""The command, on runs that were predicted: where the page is written, and what is said where it can't be."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from beam_jobs.predict_command import merge, predict
from beam_jobs.report.report_command import report
from beam_jobs.results import Incomplete
from serving.errors import EXIT_OVER_LIMIT, UsageError
from serving.storage.stores import Stores
from tests.beam_jobs.conftest import COUNT
from tests.beam_jobs.model_server import NAME, ModelServer


@pytest.fixture
def output(model: ModelServer, images: Path, tmp_path: Path) -> Path:
    """A run of the images, which is complete."""
    (images / "broken.png").write_bytes(b"no image")
    words = ["--input", str(images), "--output", f"{tmp_path}/out", "--server", model.address, "--model-name", NAME]
    done = CliRunner().invoke(predict, [*words, "--quiet"])
    assert done.exit_code == 0, done.output
    return tmp_path / "out"


def test_the_page_is_beside_the_results_and_has_the_images(output: Path) -> None:
    done = CliRunner().invoke(report, [str(output)])
    assert done.exit_code == 0, done.output
    assert done.stdout == f"report: {output}/report.html\n"
    text = (output / "report.html").read_text()
    assert f"<b>{COUNT + 1}</b><span>listed</span>" in text
    assert f"<b>{COUNT}</b><span>predicted</span>" in text
    assert text.count("data:image/webp") >= COUNT
    assert "not_an_image" in text


def test_the_same_run_gives_the_same_page(output: Path) -> None:
    CliRunner().invoke(report, [str(output)])
    first = (output / "report.html").read_text()
    CliRunner().invoke(report, [str(output)])
    assert (output / "report.html").read_text() == first


def test_without_thumbnails_no_image_is_read(output: Path) -> None:
    done = CliRunner().invoke(report, [str(output), "--no-thumbnails"])
    assert done.exit_code == 0, done.output
    text = (output / "report.html").read_text()
    assert "<img" not in text
    assert "asked for without thumbnails" in text


def test_a_source_that_is_gone_leaves_a_page_that_says_so(output: Path, images: Path) -> None:
    images.rename(images.with_name("elsewhere"))
    done = CliRunner().invoke(report, [str(output)])
    assert done.exit_code == 0, done.output
    text = (output / "report.html").read_text()
    assert "<img" not in text
    assert "None of the images could be read again" in text
    assert f"<b>{COUNT}</b><span>predicted</span>" in text


def test_a_folder_without_a_run_and_a_run_without_an_end_are_told_apart(output: Path, tmp_path: Path) -> None:
    found = CliRunner().invoke(report, [str(tmp_path)])
    assert isinstance(found.exception, UsageError)
    assert "no run in it" in str(found.exception)
    (output / "run.json").unlink()
    found = CliRunner().invoke(report, [str(output)])
    assert isinstance(found.exception, Incomplete)
    assert "not complete" in str(found.exception)


def test_results_that_were_edited_are_named_with_their_row(output: Path) -> None:
    path = output / "predictions.csv"
    lines = path.read_text().splitlines(keepends=True)
    lines[3] = lines[3].replace("0.", "zero.")
    path.write_text("".join(lines))
    found = CliRunner().invoke(report, [str(output)])
    assert isinstance(found.exception, UsageError)
    assert "predictions.csv, row 4 is not as the run wrote it" in str(found.exception)


@pytest.mark.parametrize("text", ['{"listed":', "[]", "{}"], ids=["cut", "a-list", "empty"])
def test_a_run_json_that_was_edited_is_named(output: Path, text: str) -> None:
    (output / "run.json").write_text(text)
    found = CliRunner().invoke(report, [str(output)])
    assert isinstance(found.exception, UsageError)
    assert "run.json is not as the run wrote it" in str(found.exception)


def test_a_result_that_is_gone_is_named_with_the_way_out(output: Path) -> None:
    (output / "rejected.csv").unlink()
    found = CliRunner().invoke(report, [str(output)])
    assert isinstance(found.exception, UsageError)
    assert "rejected.csv is not as the run wrote it (it is gone); `flow-images merge`" in str(found.exception)


def test_rows_that_are_gone_are_said_on_the_page(output: Path) -> None:
    path = output / "predictions.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-2]))
    assert CliRunner().invoke(report, [str(output)]).exit_code == 0
    text = (output / "report.html").read_text()
    assert f"predicted images: {COUNT - 2} in the files, {COUNT} in run.json" in text


def test_a_new_run_in_the_folder_takes_the_page_away(
    output: Path, model: ModelServer, images: Path, tmp_path: Path
) -> None:
    CliRunner().invoke(report, [str(output)])
    assert (output / "report.html").exists()
    words = ["--input", str(images), "--output", str(output), "--server", model.address, "--model-name", NAME]
    done = CliRunner().invoke(predict, [*words, "--quiet", "--fresh"])
    assert done.exit_code == 0, done.output
    assert not (output / "report.html").exists()


def test_predict_and_merge_write_the_page_where_they_are_asked_to(
    model: ModelServer, images: Path, tmp_path: Path
) -> None:
    page = tmp_path / "out" / "report.html"
    words = ["--input", str(images), "--output", f"{tmp_path}/out", "--server", model.address, "--model-name", NAME]
    done = CliRunner().invoke(predict, [*words, "--quiet", "--report"])
    assert done.exit_code == 0, done.output
    assert done.stdout.endswith(f"report: {page}\n")
    text = page.read_text()
    page.unlink()
    done = CliRunner().invoke(merge, ["--output", f"{tmp_path}/out"])
    assert done.exit_code == 0, done.output
    assert not page.exists()
    done = CliRunner().invoke(merge, ["--output", f"{tmp_path}/out", "--report"])
    assert done.exit_code == 0, done.output
    assert page.read_text() == text


def test_a_page_that_can_not_be_written_changes_nothing_else(model: ModelServer, images: Path, tmp_path: Path) -> None:
    (images / "broken.png").write_bytes(b"no image")
    (tmp_path / "out" / "report.html").mkdir(parents=True)
    words = ["--input", str(images), "--output", f"{tmp_path}/out", "--server", model.address, "--model-name", NAME]
    done = CliRunner().invoke(predict, [*words, "--quiet", "--report", "--max-rejected", "0"])
    assert done.exit_code == EXIT_OVER_LIMIT, done.output
    assert "no report: " in done.stderr
    assert (tmp_path / "out" / "run.json").exists()


def test_a_run_in_a_bucket_has_its_page_there(model: ModelServer, images: Path, s3_folder: str) -> None:
    store = Stores()(s3_folder)
    for image in images.iterdir():
        store.create(f"{s3_folder}/in/{image.name}", image.read_bytes())
    words = ["--input", f"{s3_folder}/in", "--output", f"{s3_folder}/out", "--server", model.address]
    done = CliRunner().invoke(predict, [*words, "--model-name", NAME, "--quiet"])
    assert done.exit_code == 0, done.output
    done = CliRunner().invoke(report, [f"{s3_folder}/out"])
    assert done.exit_code == 0, done.output
    text = store.read(f"{s3_folder}/out/report.html").decode()
    assert f"<b>{COUNT}</b><span>predicted</span>" in text
    assert text.count("data:image/webp") >= COUNT


def test_the_page_is_no_input_of_a_run_whose_output_is_among_its_images(model: ModelServer, images: Path) -> None:
    words = ["--input", str(images), "--output", str(images), "--server", model.address, "--model-name", NAME]
    assert CliRunner().invoke(predict, [*words, "--quiet"]).exit_code == 0
    assert CliRunner().invoke(report, [str(images)]).exit_code == 0
    again = CliRunner().invoke(predict, [*words, "--quiet"])
    assert again.exit_code == 0, again.output
    assert "more in the inputs" not in again.stdout
    assert "changed since" not in again.stdout
