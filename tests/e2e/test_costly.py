"""Files that are small, and cost much to decode, beside photos: through a real server, and in training."""

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from serving.errors import UsageError
from serving.images.limits import MIB
from tests.conftest import MODEL_NAME
from tests.e2e.test_predict import account, rows
from tests.hostile import gif_of_frames, jpeg_of_scans, png_with


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory, drawn: Path) -> Path:
    """A folder of 20 photos and files of which some would take gigabytes or minutes."""
    folder = tmp_path_factory.mktemp("hostile")
    for path in sorted((drawn / "train").iterdir())[:20]:
        shutil.copy(path, folder)
    animation = gif_of_frames((6000, 6000, 80))
    (folder / "animation-1.gif").write_bytes(animation)
    (folder / "animation-2.gif").write_bytes(animation)
    (folder / "frames.gif").write_bytes(gif_of_frames((10, 10, 1), (6000, 6000, 80)))
    (folder / "scans.jpg").write_bytes(jpeg_of_scans(10_000, 10_000, 15_000))
    (folder / "plain.png").write_bytes(png_with())
    return folder


@contextmanager
def peak_of(process: psutil.Process) -> Iterator[list[int]]:
    """Measures resident memory while the block runs: the first entry is that at its start, the last the peak."""
    measured = [process.memory_info().rss]
    ended = threading.Event()

    def measure() -> None:
        while not ended.wait(0.01):
            measured.append(max(measured[-1], process.memory_info().rss))

    thread = threading.Thread(target=measure)
    thread.start()
    try:
        yield measured
    finally:
        ended.set()
        thread.join()


@pytest.mark.parametrize("wire", ["encoded", "float32"])
def test_costly_files_are_rejected_with_words_and_photos_get_their_rows(
    wire: str, hostile: Path, model_store: Path, tmp_path: Path
) -> None:
    from beam_jobs.predict_command import predict
    from serving.server import ServerProcess

    with (
        ServerProcess(str(model_store), model_name=MODEL_NAME) as server,
        peak_of(psutil.Process(server.pid)) as measured,
    ):
        done = CliRunner().invoke(predict, [
            "--server", server.address, "--model-name", MODEL_NAME, "--input", str(hostile), "--wire", wire,
            "--output", str(tmp_path / "out"),
        ])  # fmt: skip
    assert done.exit_code == 0, done.output
    assert account(tmp_path / "out") == (25, 23, 2, 0)
    rejected = {Path(row["path"]).name: row for row in rows(tmp_path / "out" / "rejected.csv")}
    assert {name: row["reason"] for name, row in rejected.items()} == {
        "frames.gif": "too_many_pixels",
        "scans.jpg": "too_costly",
    }
    assert all("`max_image_pixels`" in row["message"] for row in rejected.values())
    assert measured[-1] - measured[0] < 700 * MIB  # one frame is 144 MB; all of one file would be 3 GB


def test_a_server_does_not_decode_what_its_client_should_not_have_sent(hostile: Path, model_store: Path) -> None:
    from serving.client.client_options import Endpoint
    from serving.client.image_calls import ImagePredictor
    from serving.client.predict_client import PredictClient
    from serving.server import ServerProcess

    names = ["scans.jpg", "frames.gif", "animation-1.gif", "animation-2.gif", "plain.png"]
    files = [(hostile / name).read_bytes() for name in names]
    with ServerProcess(str(model_store), model_name=MODEL_NAME) as server:
        endpoint = Endpoint(address=server.address, model_name=MODEL_NAME)
        with PredictClient(endpoint) as client, peak_of(psutil.Process(server.pid)) as measured:
            contract = client.contract()
            assert contract
            scores = ImagePredictor(client, contract, "encoded").predict(files)
    assert scores.ok.tolist() == [False, False, True, True, True]
    assert measured[-1] - measured[0] < 700 * MIB


def test_a_servers_memory_does_not_grow_with_the_rows_of_a_request(hostile: Path, model_store: Path) -> None:
    from serving.client.client_options import Endpoint
    from serving.client.image_calls import ImagePredictor
    from serving.client.predict_client import PredictClient
    from serving.server import ServerProcess

    image = (hostile / "plain.png").read_bytes()
    with ServerProcess(str(model_store), model_name=MODEL_NAME) as server:
        endpoint = Endpoint(address=server.address, model_name=MODEL_NAME)
        with PredictClient(endpoint) as client:
            contract = client.contract()
            assert contract
            predictor = ImagePredictor(client, contract, "encoded")
            alone = predictor.predict([image]).probabilities
            rows = -(-1500 * MIB // (12 * contract.preprocessing.height * contract.preprocessing.width))
            with peak_of(psutil.Process(server.pid)) as measured:
                scores = predictor.predict([image, *[b""] * rows, image])
    assert scores.ok.tolist() == [True, *[False] * rows, True]
    assert abs(scores.probabilities[[0, -1]] - alone).max() < 1e-4
    assert measured[-1] - measured[0] < 700 * MIB


def test_training_names_a_costly_file_before_it_begins(hostile: Path, drawn: Path, tmp_path: Path) -> None:
    from trainer.train_command import train

    shutil.copytree(drawn / "train", tmp_path / "photos" / "a")
    (tmp_path / "photos" / "b").mkdir()
    for name in ("plain.png", "scans.jpg"):
        shutil.copy(hostile / name, tmp_path / "photos" / "b")
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "saved_model.pb").touch()  # not looked into before the images are checked
    done = CliRunner().invoke(train, [
        "--folder", str(tmp_path / "photos"), "--model-store", str(tmp_path / "store"), "--name", "m",
        "--hub-model", str(tmp_path / "hub"),
    ])  # fmt: skip
    assert isinstance(done.exception, UsageError)
    assert "scans.jpg" in str(done.exception)
    assert "15,000 scans" in str(done.exception)
