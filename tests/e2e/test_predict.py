"""The job end to end, by its command, against a real server of a real model: compared with a plain loop."""

import csv
import functools
import hashlib
import http.server
import json
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from pyarrow import parquet

from serving.contract import ModelContract
from serving.errors import FlowImagesError, UsageError
from tests.conftest import MODEL_NAME

Predict = Callable[..., Result]


@pytest.fixture
def predict(server: str) -> Predict:
    """Runs `flow-images predict` in this process against the session's server."""
    from beam_jobs.predict_command import predict as command

    def run(*arguments: object, server: str = server) -> Result:
        words = ["--server", server, "--model-name", MODEL_NAME, *map(str, arguments)]
        return CliRunner().invoke(command, words)

    return run


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def account(output: Path) -> tuple[int, int, int, int]:
    run = json.loads((output / "run.json").read_text())
    return run["listed"], run["predicted"], run["rejected"], run["failed"]


def plain_loop(model_store: Path, paths: Sequence[str]) -> dict[str, tuple[str, float]]:
    """Label and score of each image, one by one in this process."""
    import tensorflow as tf

    from serving.images.preprocessing import make_decoder

    version = model_store / "1"
    model = tf.saved_model.load(str(version))
    contract = ModelContract.from_json((version / "assets.extra" / "contract.json").read_text())
    decode = make_decoder(contract.preprocessing, "float32")
    answers = {}
    for path in paths:
        image = decode(Path(path).read_bytes())
        scores = model.signatures["serving_default"](tf.constant(image[np.newaxis]))["probabilities"].numpy()[0]
        answers[path] = (contract.labels[int(scores.argmax())], float(scores.max()))
    return answers


@pytest.mark.parametrize(("wire", "tolerance"), [("float32", 1e-4), ("uint8", 0.1), ("encoded", 1e-4)])
def test_the_job_answers_as_a_plain_loop(
    predict: Predict, drawn: Path, model_store: Path, tmp_path: Path, wire: str, tolerance: float
) -> None:
    result = predict("--input", f"{drawn}/train/*.jpg", "--output", tmp_path / "out", "--wire", wire)
    assert result.exit_code == 0, result.output
    found = rows(tmp_path / "out" / "predictions.csv")
    expected = plain_loop(model_store, sorted(str(path) for path in (drawn / "train").glob("*.jpg")))
    assert [row["path"] for row in found] == list(expected)
    assert len(list((tmp_path / "out").glob("_state/parts/*/*.jsonl"))) > 1  # several chunks, or it proves little
    for row in found:
        label, score = expected[row["path"]]
        assert float(row["score"]) == pytest.approx(score, abs=tolerance)
        if wire != "uint8":
            assert row["label"] == label


def test_embeddings_are_those_of_a_plain_loop_in_every_wire_form(
    predict: Predict, drawn: Path, model_store: Path, tmp_path: Path
) -> None:
    import pyarrow.parquet
    import tensorflow as tf

    shutil.copytree(drawn / "train", tmp_path / "in")
    (tmp_path / "in" / "broken.jpg").write_bytes(b"<html>")
    model = tf.saved_model.load(str(model_store / "1"))
    ask = model.signatures["serving_encoded_embeddings"]
    for wire in ("float32", "uint8", "encoded"):
        result = predict("--input", tmp_path / "in", "--output", tmp_path / wire, "--wire", wire, "--embeddings")
        assert result.exit_code == 0, result.output
        assert f"embeddings: {tmp_path / wire}/embeddings.parquet\n" in result.output
        table = pyarrow.parquet.read_table(tmp_path / wire / "embeddings.parquet")
        paths = table["path"].to_pylist()
        assert paths == [row["path"] for row in rows(tmp_path / wire / "predictions.csv")]
        assert account(tmp_path / wire) == (len(paths) + 1, len(paths), 1, 0)
        expected = ask(tf.constant([Path(path).read_bytes() for path in paths]))["embeddings"].numpy()
        found = np.array(table["embedding"].to_pylist(), np.float32)
        np.testing.assert_allclose(found, expected, atol=0.1 if wire == "uint8" else 0.02)


def test_columns_are_the_best_classes_in_order(predict: Predict, drawn: Path, tmp_path: Path) -> None:
    predict("--input", drawn / "train", "--output", tmp_path / "out", "--top-k", 3)
    found = rows(tmp_path / "out" / "predictions.csv")
    assert list(found[0]) == ["path", "label", "score", "label_2", "score_2", "label_3", "score_3"]
    for row in found:
        assert float(row["score"]) >= float(row["score_2"]) >= float(row["score_3"])


def test_run_json_says_what_was_done(predict: Predict, drawn: Path, model_store: Path, tmp_path: Path) -> None:
    predict("--input", drawn / "train", "--output", tmp_path / "out", "--batch-size", 7)
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    contract = ModelContract.from_json((model_store / "1" / "assets.extra" / "contract.json").read_text())
    assert run["model"] == {"name": MODEL_NAME, "version": 1, "fingerprint": contract.fingerprint}
    options = run["options"]
    assert (options["inputs"], options["output"]) == ([str(drawn / "train")], str(tmp_path / "out"))
    assert (options["wire"], options["batch_size"], options["top_k"]) == ("encoded", 7, 5)  # the form that was chosen
    assert {"flow-images", "apache-beam", "tensorflow", "grpcio", "numpy"} <= run["versions"].keys()
    assert run["started"] <= run["finished"]


def test_broken_images_cost_only_themselves(predict: Predict, drawn: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    shutil.copytree(drawn / "train", folder)
    whole = sorted(folder.iterdir())[0].read_bytes()
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "page.jpg").write_bytes(b"<html>not found</html>")
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "link.jpg").symlink_to(folder / "gone.jpg")
    (folder / "vector.svg").write_bytes(b"<svg/>")
    Path(os.fsdecode(bytes(folder) + b"/\xff\xfe.jpg")).write_bytes(whole)
    verdicts = {}
    for wire in ("float32", "uint8", "encoded"):
        result = predict("--input", folder, "--output", tmp_path / wire, "--wire", wire)
        assert result.exit_code == 0, result.output
        assert account(tmp_path / wire) == (54, 48, 6, 0)
        verdicts[wire] = {(Path(row["path"]).name, row["reason"]) for row in rows(tmp_path / wire / "rejected.csv")}
    assert verdicts["float32"] == verdicts["uint8"] == verdicts["encoded"]
    assert verdicts["float32"] == {
        ("empty.jpg", "empty"), ("page.jpg", "not_an_image"), ("cut.jpg", "corrupt"), ("link.jpg", "missing"),
        ("vector.svg", "unsupported_format"), ("\\xff\\xfe.jpg", "bad_name"),
    }  # fmt: skip


def test_names_that_break_other_csvs_come_back_unaltered(predict: Predict, drawn: Path, tmp_path: Path) -> None:
    image = sorted((drawn / "train").iterdir())[0]
    names = ["=1+1.jpg", 'quo"te.jpg', "com,ma.jpg", "new\nline.jpg", "cr\r.jpg", " blank.jpg", "犬 &.jpg", "@x.jpg"]
    for name in names:
        (tmp_path / "in" / name).parent.mkdir(exist_ok=True)
        shutil.copy(image, tmp_path / "in" / name)
    assert predict("--input", tmp_path / "in", "--output", tmp_path / "out").exit_code == 0
    found = [row["path"] for row in rows(tmp_path / "out" / "predictions.csv")]
    assert found == sorted(f"{tmp_path}/in/{name}" for name in names)


def test_a_csv_keeps_its_ids_and_labels(predict: Predict, drawn: Path, tmp_path: Path) -> None:
    images = rows(drawn / "labels.csv")
    with open(tmp_path / "in.csv", "w", newline="") as file:
        table = [[f"{drawn}/train/{row['id']}.jpg", row["id"], row["breed"]] for row in images]
        csv.writer(file).writerows([["path", "id", "label"], *table, table[0]])
    result = predict("--input", tmp_path / "in.csv", "--output", tmp_path / "out")
    found = rows(tmp_path / "out" / "predictions.csv")
    assert [(row["path"], row["id"], row["true_label"]) for row in found] == sorted(map(tuple, table))
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert run["duplicates"] == 1
    assert run["accuracy"] == pytest.approx(np.mean([row["label"] == row["true_label"] for row in found]), abs=1e-6)
    assert "1 duplicates left out" in result.output


def test_a_submission_file_has_every_listed_id(predict: Predict, drawn: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    shutil.copytree(drawn / "train", folder)
    (folder / "broken.jpg").write_bytes(b"x")
    predict("--input", folder, "--output", tmp_path / "out", "--format", "kaggle")
    found = rows(tmp_path / "out" / "predictions.csv")
    labels = list(found[0])[1:]
    assert labels == sorted({row["breed"] for row in rows(drawn / "labels.csv")})
    assert [row["id"] for row in found] == sorted(path.stem for path in folder.iterdir())
    for row in found:
        assert sum(float(row[label]) for label in labels) == pytest.approx(1, abs=1e-4)
    broken = next(row for row in found if row["id"] == "broken")
    assert [float(broken[label]) for label in labels] == pytest.approx([1 / 6] * 6, abs=1e-6)


def test_other_forms_and_thresholds_are_written_without_asking_again(
    predict: Predict, drawn: Path, tmp_path: Path
) -> None:
    from beam_jobs.predict_command import merge

    output = tmp_path / "out"
    predict("--input", drawn / "train", "--output", output, "--threshold", "0", "--format", "csv")
    first = rows(output / "predictions.csv")
    scores = sorted(float(row["score"]) for row in first)
    threshold = scores[len(scores) // 2]
    nobody = "127.0.0.1:1"
    words = ["--input", drawn / "train", "--output", output]
    run = json.loads((output / "run.json").read_text())
    result = predict(*words, "--threshold", threshold, "--format", "jsonl,parquet", server=nobody)
    assert result.exit_code == 0, result.exception
    below = sum(score < threshold for score in scores)
    assert 0 < below < len(scores)
    assert f"unknown: {below} images with a score below the threshold" in result.stdout
    assert f"predictions: {output}/predictions.jsonl, {output}/predictions.parquet" in result.stdout
    assert not (output / "predictions.csv").exists()
    lines = [json.loads(line) for line in (output / "predictions.jsonl").read_text().splitlines()]
    assert lines == parquet.read_table(output / "predictions.parquet").to_pylist()
    assert [(line["path"], line["model_label"], line["model_score"]) for line in lines] == [
        (row["path"], row["label"], float(row["score"])) for row in first
    ]
    assert [line["label"] == "unknown" for line in lines] == [line["model_score"] < threshold for line in lines]
    now = json.loads((output / "run.json").read_text())
    assert (now["finished"], now["seconds"]) == (run["finished"], run["seconds"])
    assert now["options"]["format"] == "jsonl,parquet"
    # What was written last stays, until someone wants something else.
    again = predict(*words, server=nobody)
    assert again.stdout.startswith("complete since ")
    assert (output / "predictions.parquet").exists()
    merged = CliRunner().invoke(merge, ["--output", str(output), "--format", "csv", "--threshold", "0"])
    assert merged.exit_code == 0, merged.exception
    assert rows(output / "predictions.csv") == first
    assert not (output / "predictions.parquet").exists()
    refused = CliRunner().invoke(merge, ["--output", str(output), "--format", "kaggle"])
    assert isinstance(refused.exception, UsageError)
    assert "needs the scores of all classes" in str(refused.exception)
    assert rows(output / "predictions.csv") == first


def test_a_submission_and_a_table_come_from_one_run(predict: Predict, drawn: Path, tmp_path: Path) -> None:
    words = ["--input", drawn / "train", "--threshold", "0"]
    predict(*words, "--output", tmp_path / "one", "--top-k", 2)
    result = predict(*words, "--output", tmp_path / "both", "--format", "kaggle,csv", "--top-k", 2)
    assert result.exit_code == 0, result.exception
    table, submission = rows(tmp_path / "both" / "predictions.csv"), rows(tmp_path / "both" / "submission.csv")
    for row, expected, scores in zip(table, rows(tmp_path / "one" / "predictions.csv"), submission, strict=True):
        assert list(row) == ["path", "label", "score", "label_2", "score_2"]
        assert (row["path"], row["label"]) == (expected["path"], expected["label"])
        assert scores[row["label"]] == row["score"]
        assert scores["id"] == Path(row["path"]).stem


def test_facts_of_images_are_columns(predict: Predict, drawn: Path, tmp_path: Path) -> None:
    words = ["--input", drawn / "train", "--output", tmp_path / "out"]
    result = predict(*words, "--columns", "sha256,bytes,width,format")
    assert result.exit_code == 0, result.exception
    found = rows(tmp_path / "out" / "predictions.csv")
    assert list(found[0])[-4:] == ["sha256", "bytes", "width", "format"]
    for row in found:
        data = Path(row["path"]).read_bytes()
        with Image.open(row["path"]) as image:
            size, format_ = image.size, image.format
        assert [row["sha256"], row["bytes"]] == [hashlib.sha256(data).hexdigest(), str(len(data))]
        assert [row["width"], row["format"]] == [str(size[0]), format_]
    other = predict(*words, "--columns", "bytes")
    assert isinstance(other.exception, UsageError)
    wrong = predict(*words, "--columns", "bytes,colour")
    assert wrong.exit_code == 2
    assert "some of width, height, bytes, format, taken, sha256" in wrong.output


def test_a_finished_run_is_not_asked_again(predict: Predict, drawn: Path, tmp_path: Path) -> None:
    first = predict("--input", drawn / "train", "--output", tmp_path / "out")
    before = (tmp_path / "out" / "predictions.csv").read_bytes()
    again = predict("--input", drawn / "train", "--output", tmp_path / "out", server="127.0.0.1:1")
    assert again.exit_code == 0, again.exception
    said, rest = again.stdout.split("\n", 1)
    assert said.startswith("complete since ")
    assert said.endswith("with version 1 of textures: nothing is left to do")
    assert rest == re.sub(": 48 images in .*", "", first.stdout)  # what this command did: nothing
    assert (tmp_path / "out" / "predictions.csv").read_bytes() == before


def test_a_run_that_lost_parts_asks_only_for_those(predict: Predict, drawn: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    predict("--input", drawn / "train", "--output", output)
    before = (output / "predictions.csv").read_bytes()
    (parts,) = (output / "_state" / "parts").iterdir()
    kept = {path.name: path.stat().st_mtime_ns for path in parts.glob("*-*.jsonl")}
    (parts / "0-00000001.jsonl").unlink()
    (output / "run.json").unlink()
    assert predict("--input", drawn / "train", "--output", output).exit_code == 0
    assert (output / "predictions.csv").read_bytes() == before
    times = {path.name: path.stat().st_mtime_ns for path in parts.glob("*-*.jsonl")}
    assert {name for name in times if times[name] != kept[name]} == {"0-00000001.jsonl"}


def test_a_run_with_its_own_server_stays_with_its_version(model_store: Path, drawn: Path, tmp_path: Path) -> None:
    from beam_jobs.predict_command import predict as command

    store, output = tmp_path / MODEL_NAME, tmp_path / "out"
    shutil.copytree(model_store, store)
    shutil.copytree(store / "1", store / "2")
    whole = ["--input", str(drawn / "train"), "--output", str(output), "--wire", "encoded"]

    def predict(*arguments: object) -> Result:
        return CliRunner().invoke(command, [*whole, *map(str, arguments)])

    first = predict("--model", store / "1")
    assert first.exit_code == 0, first.output + str(first.exception)
    before = (output / "predictions.csv").read_bytes()
    (parts,) = (output / "_state" / "parts").iterdir()
    (parts / "0-00000001.jsonl").unlink()
    assert predict("--model", store).exit_code == 0
    assert (output / "predictions.csv").read_bytes() == before
    assert json.loads((output / "run.json").read_text())["model"]["version"] == 1
    (parts / "0-00000001.jsonl").unlink()
    shutil.rmtree(store / "1")
    refused = predict("--model", store)
    assert isinstance(refused.exception, FlowImagesError)
    assert refused.exception.exit_code == 2
    assert "no version 1 in it, but 2" in str(refused.exception)
    assert predict("--model", store, "--fresh").exit_code == 0
    assert json.loads((output / "run.json").read_text())["model"]["version"] == 2


def test_memory_may_change_when_a_run_goes_on(predict: Predict, drawn: Path, tmp_path: Path) -> None:
    arguments = ("--input", drawn / "train", "--output", tmp_path / "out", "--wire", "encoded")
    assert predict(*arguments, "--shard", "0/2").exit_code == 0
    assert not (tmp_path / "out" / "run.json").exists()
    assert predict(*arguments, "--shard", "1/2", "--max-memory", "12GiB").exit_code == 0
    assert json.loads((tmp_path / "out" / "run.json").read_text())["options"]["max_memory"] == 12 * 2**30
    assert account(tmp_path / "out") == (48, 48, 0, 0)


@pytest.mark.parametrize("flag", ["--max-image-pixels", "--max-image-bytes"])
def test_limits_below_the_models_own_size_reject_images(
    predict: Predict, drawn: Path, tmp_path: Path, flag: str
) -> None:
    result = predict("--input", drawn / "train", "--output", tmp_path / "out", "--wire", "encoded", flag, "100")
    assert result.exit_code == 3, result.output
    assert account(tmp_path / "out") == (48, 0, 48, 0)


@pytest.mark.parametrize("size", ["much", "-1GiB", "nan"])
def test_no_sane_memory_is_wrong_usage(predict: Predict, tmp_path: Path, size: str) -> None:
    result = predict("--input", tmp_path, "--output", tmp_path / "out", "--max-memory", size)
    assert result.exit_code == 2
    assert "--max-memory" in result.output


def test_too_little_memory_is_wrong_usage(predict: Predict, tmp_path: Path) -> None:
    result = predict("--input", tmp_path, "--output", tmp_path / "out", "--max-memory", "2")
    assert isinstance(result.exception, UsageError)
    assert "`max_memory` must be from 128MiB to 1073741824MiB, not 2" in str(result.exception)


@pytest.mark.parametrize("change", [["--top-k", "2"], ["--wire", "uint8"], ["--format", "kaggle"]])
def test_options_that_would_mix_results_are_refused(
    predict: Predict, drawn: Path, tmp_path: Path, change: list[str]
) -> None:
    predict("--input", drawn / "train", "--output", tmp_path / "out")
    result = predict("--input", drawn / "train", "--output", tmp_path / "out", *change)
    assert isinstance(result.exception, FlowImagesError)
    assert result.exception.exit_code == 2
    assert "`fresh`" in str(result.exception)
    assert predict("--input", drawn / "train", "--output", tmp_path / "out", *change, "--fresh").exit_code == 0


def test_shards_together_write_what_one_run_writes(predict: Predict, drawn: Path, tmp_path: Path) -> None:
    predict("--input", drawn / "train", "--output", tmp_path / "one", "--batch-size", 4)
    for number in (2, 0, 1):
        result = predict(
            "--input", drawn / "train", "--output", tmp_path / "many", "--shard", f"{number}/3", "--batch-size", 4
        )
        assert result.exit_code == 0, result.output
        assert (tmp_path / "many" / "run.json").exists() == (number == 1)
    for row, expected in zip(
        rows(tmp_path / "many/predictions.csv"), rows(tmp_path / "one/predictions.csv"), strict=True
    ):
        assert row["label"] == expected["label"]
        assert float(row["score"]) == pytest.approx(float(expected["score"]), abs=1e-4)


def test_too_many_rejected_images_end_with_3(predict: Predict, tmp_path: Path, drawn: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jpg").write_bytes(b"x")
    shutil.copy(sorted((drawn / "train").iterdir())[0], tmp_path / "in" / "b.jpg")
    arguments = ("--input", tmp_path / "in", "--output", tmp_path / "out")
    assert predict(*arguments).exit_code == 0
    assert predict(*arguments, "--max-rejected", "0").exit_code == 3
    assert predict(*arguments, "--max-rejected", "49%").exit_code == 3
    assert predict(*arguments, "--max-rejected", "1").exit_code == 0


def test_an_empty_input_is_never_a_success(predict: Predict, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    result = predict("--input", tmp_path / "in", "--output", tmp_path / "out")
    assert isinstance(result.exception, FlowImagesError)
    assert result.exception.exit_code == 2
    assert not (tmp_path / "out" / "run.json").exists()


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--", "--runer=FlinkRunner"], "--runer"),
        (["--", "--direct_running_mode=multi_threading"], "loses rows"),
        (["stray"], "unexpected argument 'stray': a pattern goes in quotes"),
        (["--shard", "3/3"], "0 to N-1"),
        (["--signature", "x"], "its own contract"),
        (["--tls-cert", "x.pem"], "`tls.key`"),
    ],
)
def test_wrong_usage_names_the_flag(predict: Predict, drawn: Path, tmp_path: Path, flags: list[str], says: str) -> None:
    result = predict("--input", drawn / "train", "--output", tmp_path / "out", *flags)
    assert isinstance(result.exception, FlowImagesError)
    assert says in str(result.exception)
    assert result.exception.exit_code == 2


def test_secrets_of_beam_are_written_nowhere(predict: Predict, drawn: Path, tmp_path: Path) -> None:
    secret = "s3cr3t-value"
    result = predict("--input", drawn / "train", "--output", tmp_path / "out", "--", f"--s3_secret_access_key={secret}")
    assert result.exit_code == 0, result.exception
    for path in (tmp_path / "out").rglob("*"):
        assert not path.is_file() or secret.encode() not in path.read_bytes()
    assert "--s3_secret_access_key" in (tmp_path / "out" / "run.json").read_text()


@pytest.mark.parametrize("place", ["s3_folder", "gs_folder", "az_folder"])
def test_buckets_hold_input_and_output(
    predict: Predict, drawn: Path, tmp_path: Path, place: str, request: pytest.FixtureRequest
) -> None:
    from serving.storage.stores import open_store

    folder = request.getfixturevalue(place)
    storage = open_store(folder)
    for path in sorted((drawn / "train").iterdir())[:12]:
        storage.create(f"{folder}/in/deep/{path.name}", path.read_bytes())
    storage.create(f"{folder}/in/broken.jpg", b"x")
    result = predict("--input", f"{folder}/in/**/*.jpg", "--output", f"{folder}/out")
    assert result.exit_code == 0, result.output + str(result.exception)
    run = json.loads(storage.read(f"{folder}/out/run.json"))
    assert (run["listed"], run["predicted"], run["rejected"]) == (13, 12, 1)
    predict("--input", drawn / "train", "--output", tmp_path / "local")
    local = {Path(row["path"]).name: row["label"] for row in rows(tmp_path / "local" / "predictions.csv")}
    text = storage.read(f"{folder}/out/predictions.csv").decode().splitlines()
    for row in csv.DictReader(text):
        assert row["label"] == local[row["path"].rsplit("/", 1)[1]]


@pytest.fixture
def web(drawn: Path) -> Iterator[str]:
    """URL of a real web server over the drawn images; `/private/` wants a signature."""

    class Files(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.startswith("/private/") and "sig=s3cr3t" not in self.path:
                return self.send_error(403)
            self.path = self.path.removeprefix("/private")
            return super().do_GET()

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Files, directory=str(drawn))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_images_on_the_web_are_named_one_by_one(predict: Predict, drawn: Path, tmp_path: Path, web: str) -> None:
    names = [path.name for path in sorted((drawn / "train").iterdir())[:6]]
    urls = [f"{web}/private/train/{name}?sig=s3cr3t" for name in names]
    lost, denied = f"{web}/train/none.jpg", f"{web}/private/train/{names[0]}"
    (tmp_path / "urls.txt").write_text("\n".join([*urls[1:], lost, denied]))
    result = predict("--input", urls[0], "--input", tmp_path / "urls.txt", "--output", tmp_path / "out",
                     "--max-rejected", 1, "--max-failed", 1)  # fmt: skip
    assert result.exit_code == 0, result.output + str(result.exception)
    assert account(tmp_path / "out") == (8, 6, 1, 1)
    assert [row["path"] for row in rows(tmp_path / "out" / "predictions.csv")] == urls
    assert [(row["path"], row["reason"]) for row in rows(tmp_path / "out" / "rejected.csv")] == [(lost, "missing")]
    (failed,) = rows(tmp_path / "out" / "failed.csv")
    assert failed["path"] == denied
    assert "HTTP 403" in failed["message"]
    predict("--input", drawn / "train", "--output", tmp_path / "local")
    local = {Path(row["path"]).name: row["label"] for row in rows(tmp_path / "local" / "predictions.csv")}
    for name, row in zip(names, rows(tmp_path / "out" / "predictions.csv"), strict=True):
        assert row["label"] == local[name]
    other = predict("--input", urls[1], "--output", tmp_path / "out")
    assert other.exception is not None
    assert "other options" in str(other.exception)
    assert "s3cr3t" not in str(other.exception)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--input", "{}/train/*.jpg?sig=s3cr3t", "--output", "{here}"], "asked for single files, not for folders"),
        (["--input", "{}/private/x.jpg", "--output", "{here}"], "HTTP 403"),
        (["--input", "{}/labels.csv", "--output", "{}/out?sig=s3cr3t"], "a web server is only read from"),
    ],
    ids=["glob", "denied", "output"],
)
def test_what_a_web_server_is_not_for_is_wrong_usage(
    predict: Predict, tmp_path: Path, web: str, arguments: list[str], says: str
) -> None:
    result = predict(*(word.format(web, here=tmp_path / "out") for word in arguments))
    assert isinstance(result.exception, FlowImagesError)
    assert result.exception.exit_code == 2
    assert says in str(result.exception)
    assert "s3cr3t" not in str(result.exception)


def test_a_model_in_a_bucket_is_served_from_a_copy(
    model_store: Path, drawn: Path, tmp_path: Path, s3_folder: str
) -> None:
    from beam_jobs.predict_command import predict as command
    from serving.storage.stores import open_store

    storage = open_store(s3_folder)
    for path in (path for path in model_store.rglob("*") if path.is_file()):
        storage.create(f"{s3_folder}/{MODEL_NAME}/{path.relative_to(model_store)}", path.read_bytes())
    storage.create(f"{s3_folder}/{MODEL_NAME}/2/variables/half-copied", b"x")
    arguments = ["--model", f"{s3_folder}/{MODEL_NAME}", "--input", str(drawn / "train"), "--wire", "encoded"]
    result = CliRunner().invoke(command, [*arguments, "--output", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output + str(result.exception)
    assert json.loads((tmp_path / "out" / "run.json").read_text())["model"]["version"] == 1
    missing = CliRunner().invoke(command, [*arguments, "--output", str(tmp_path / "o"), "--model-version", "7"])
    assert isinstance(missing.exception, FlowImagesError)
    assert "no version 7" in str(missing.exception)


@pytest.mark.parametrize("wire", ["float32", "uint8", "encoded"])
def test_awkward_files_end_in_exactly_one_csv(predict: Predict, shared_data: Path, tmp_path: Path, wire: str) -> None:
    files = shared_data / "awkward" / "files"
    expected = {
        row["file"]: row["tf_decode_image_ch3"].startswith("ok")
        for row in rows(shared_data / "awkward" / "expected.csv")
    }
    result = predict("--input", files, "--output", tmp_path, "--wire", wire)
    assert result.exit_code == 0, result.output
    predicted = {Path(row["path"]).name for row in rows(tmp_path / "predictions.csv")}
    rejected = {Path(row["path"]).name: row["message"] for row in rows(tmp_path / "rejected.csv")}
    assert predicted == {name for name, decodes in expected.items() if decodes}
    assert rejected.keys() == {name for name, decodes in expected.items() if not decodes}
    assert all(rejected.values())
