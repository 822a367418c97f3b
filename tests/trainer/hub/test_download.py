"""Modules come from a server that behaves as the hub does: redirects, archives, ranges, checksums, and faults."""

import base64
import hashlib
import http.server
import socket
import struct
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from serving.errors import UsageError
from trainer.hub import download
from trainer.hub.download import downloaded, unpack
from trainer.hub.handle import check_hub_handle, kaggle_url
from trainer.progress import Progress
from trainer.tensorflow_errors import MayPass


class Hub(http.server.SimpleHTTPRequestHandler):
    """An archive at every path, below /google/ and /api/ behind a redirect; each of `faults` spoils an answer first."""

    faults: ClassVar[list[str]] = []
    asked: ClassVar[list[dict[str, str]]] = []
    sent: ClassVar[list[int]] = []
    has_checksum: ClassVar[bool] = True

    def do_GET(self) -> None:
        self.asked.append({"path": self.path, **{name.lower(): value for name, value in self.headers.items()}})
        if self.path.startswith(("/google/", "/api/")):
            self.send_response(302)
            self.send_header("Location", "/storage/module.tar.gz")
            self.end_headers()
            return
        fault = self.faults.pop() if self.faults else ""
        data = (Path(self.directory) / "module.tar.gz").read_bytes()
        tag = f'"{hashlib.md5(data).hexdigest()}"'
        begin = 0
        if self.headers.get("Range") and self.headers.get("If-Range") == tag:
            begin = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        if fault.isdigit():
            self.send_error(int(fault))
        elif fault == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
        elif begin >= len(data):
            self.send_error(416)
        else:
            self._send(data[begin:], begin, tag, data, fault)

    def _send(self, part: bytes, begin: int, tag: str, data: bytes, fault: str) -> None:
        self.send_response(206 if begin else 200)
        self.send_header("ETag", tag)
        if fault != "cut unsaid":
            self.send_header("Content-Length", str(len(part)))
        if begin:
            at = 0 if fault == "elsewhere" else begin
            self.send_header("Content-Range", f"bytes {at}-{at + len(part) - 1}/{len(data)}")
        if self.has_checksum:
            digest = b"0" * 16 if fault == "spoilt" else hashlib.md5(data).digest()
            self.send_header("x-goog-hash", f"crc32c=AAAAAA==,md5={base64.b64encode(digest).decode()}")
        self.end_headers()
        part = part[: len(part) // 2] if fault.startswith("cut") else part
        self.sent.append(len(part))
        self.wfile.write(part)

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Told(Progress):
    def __init__(self) -> None:
        self.notes: list[str] = []
        self.steps: list[str] = []

    def begin(self, step: str, total: int | None = None) -> None:
        self.steps.append(step)

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """An archive of a folder that looks like a SavedModel."""
    model = tmp_path / "model"
    model.mkdir()
    (model / "saved_model.pb").write_bytes(bytes(range(256)) * 40)
    (tmp_path / "site").mkdir()
    path = tmp_path / "site" / "module.tar.gz"
    with tarfile.open(path, "w:gz") as members:
        members.add(model, ".")
    return path


@pytest.fixture
def site(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A hub that hands the archive out, and a cache of this test."""
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(download, "_FIRST_PAUSE_S", 0.01)
    for name in ("http_proxy", "HTTP_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("faults", "asked", "sent"):
        monkeypatch.setattr(Hub, name, [])
    monkeypatch.setattr(Hub, "has_checksum", True)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Hub, directory=str(archive.parent))) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_url_is_followed_asked_for_an_archive_and_downloaded_once(site: str, archive: Path, tmp_path: Path) -> None:
    url = f"{site}/google/imagenet/classification/5"
    found = downloaded(url, Progress())
    assert (found / "saved_model.pb").read_bytes() == bytes(range(256)) * 40
    assert [request["path"] for request in Hub.asked] == [
        "/google/imagenet/classification/5?tf-hub-format=compressed", "/storage/module.tar.gz",
    ]  # fmt: skip
    assert downloaded(url, Progress()) == found
    assert len(Hub.asked) == 2
    assert found.parent == tmp_path / "cache"
    assert found.name == hashlib.sha1(url.encode()).hexdigest()  # where TensorFlow Hub looks for it
    assert sorted(path.suffix for path in found.parent.iterdir()) == ["", ".flock"]


def test_a_download_that_breaks_off_goes_on_with_what_is_missing(site: str, archive: Path) -> None:
    size = archive.stat().st_size
    Hub.faults += ["cut", "reset", "cut"]
    told = Told()
    downloaded(f"{site}/m.tar.gz", told)
    half = size // 2
    assert Hub.sent == [half, (size - half) // 2, size - half - (size - half) // 2]
    assert [f"try {number} of 4" in note for number, note in enumerate(told.notes, start=2)] == [True] * 3
    assert "it ended after" in told.notes[0]
    assert "downloading the hub module" in told.steps[0]


def test_a_killed_download_goes_on_unless_the_file_is_another_by_now(site: str, archive: Path, tmp_path: Path) -> None:
    Hub.faults += ["cut", "404"][::-1]
    with pytest.raises(UsageError):
        downloaded(f"{site}/m.tar.gz", Progress())
    (part,) = (tmp_path / "cache").glob("*.part")
    assert part.stat().st_size == archive.stat().st_size // 2
    downloaded(f"{site}/m.tar.gz", Progress())
    assert sum(Hub.sent) == archive.stat().st_size
    Hub.faults += ["404", "cut"]
    with pytest.raises(UsageError):
        downloaded(f"{site}/other.tar.gz", Progress())
    with tarfile.open(archive, "w:gz") as members:
        members.add(tmp_path / "model", "elsewhere")
    Hub.sent.clear()
    assert downloaded(f"{site}/other.tar.gz", Progress()).name == "elsewhere"
    assert Hub.sent == [archive.stat().st_size]


def test_a_part_from_another_place_is_not_appended(site: str, archive: Path) -> None:
    Hub.faults += ["elsewhere", "cut"]
    told = Told()
    folder = downloaded(f"{site}/m.tar.gz", told)
    assert (folder / "saved_model.pb").read_bytes() == bytes(range(256)) * 40
    assert "the server continued at another place" in told.notes[1]


def test_a_file_that_is_whole_already_is_not_asked_for_again(site: str, archive: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    place = tmp_path / "cache" / hashlib.sha1(f"{site}/m.tar.gz".encode()).hexdigest()
    place.with_suffix(".part").write_bytes(archive.read_bytes())
    place.with_suffix(".tag").write_text(f'"{hashlib.md5(archive.read_bytes()).hexdigest()}"')
    assert (downloaded(f"{site}/m.tar.gz", Progress()) / "saved_model.pb").exists()


def test_a_spoilt_download_is_noticed_by_its_checksum(site: str) -> None:
    Hub.faults += ["spoilt"]
    told = Told()
    downloaded(f"{site}/m.tar.gz", told)
    assert "its MD5 is" in told.notes[0]
    Hub.faults += ["spoilt"] * 4
    with pytest.raises(MayPass, match=r"its MD5 is .*tried 4 times"):
        downloaded(f"{site}/other.tar.gz", Progress())


@pytest.mark.parametrize("fault", ["429", "500", "cut", "reset"])
def test_what_may_pass_and_does_not_is_tried_four_times(site: str, fault: str) -> None:
    Hub.faults += [fault] * 9
    with pytest.raises(MayPass, match=rf"{site}/m\.tar\.gz can't be reached .*tried 4 times"):
        downloaded(f"{site}/m.tar.gz", Progress())
    assert len(Hub.asked) == 4


def test_an_archive_that_ends_early_unsaid_may_pass_and_is_not_kept(site: str) -> None:
    Hub.faults += ["cut unsaid"]
    Hub.has_checksum = False
    with pytest.raises(MayPass, match=r"is not whole: .*repeat the command"):
        downloaded(f"{site}/m.tar.gz", Progress())
    assert (downloaded(f"{site}/m.tar.gz", Progress()) / "saved_model.pb").exists()


@pytest.mark.parametrize("fault", ["404", "403"])
def test_a_url_that_is_wrong_is_refused_at_once(site: str, fault: str) -> None:
    Hub.faults += [fault] * 2
    with pytest.raises(UsageError, match=rf"can't be reached \({fault} .*give its path"):
        downloaded(f"{site}/m.tar.gz", Progress())
    assert len(Hub.asked) == 1


def test_archives_that_are_none_or_reach_out_are_refused_and_not_kept(
    site: str, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.write_text("<html>" * 1000)
    with pytest.raises(UsageError, match="is not a module's archive, or is not whole"):
        downloaded(f"{site}/page", Progress())
    with tarfile.open(archive, "w:gz") as members:
        members.add(tmp_path / "model", "../escaped")
    with pytest.raises(UsageError, match="outside"):
        downloaded(f"{site}/evil", Progress())
    (tmp_path / "out").symlink_to("/etc/hostname")
    with tarfile.open(archive, "w:gz") as members:
        members.add(tmp_path / "out", "saved_model.pb")
    with pytest.raises(UsageError, match="is not whole"):
        downloaded(f"{site}/link", Progress())
    with tarfile.open(archive, "w:gz") as members:
        members.add(archive.parent, "no-model", recursive=False)
    with pytest.raises(UsageError, match=r"no saved_model\.pb in the archive"):
        downloaded(f"{site}/empty", Progress())
    (tmp_path / "model" / "saved_model.pb").write_bytes(bytes(2**20))
    with tarfile.open(archive, "w:gz") as members:
        members.add(tmp_path / "model", ".")
    monkeypatch.setattr(download, "_SMALL", 2**19)
    with pytest.raises(UsageError, match="unpacked it is above 524,288 bytes"):
        downloaded(f"{site}/bomb", Progress())
    assert {path.suffix for path in (tmp_path / "cache").iterdir()} == {".flock"}
    assert not (tmp_path / "escaped").exists()


@pytest.mark.parametrize("at", [0.5, 1.0])
def test_a_damaged_archive_is_refused_by_gzips_own_checksum(archive: Path, tmp_path: Path, at: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, 50_000, np.uint8)
    (tmp_path / "model" / "saved_model.pb").write_bytes(noise.tobytes())
    with tarfile.open(archive, "w:gz") as members:
        members.add(tmp_path / "model", ".")
    data = bytearray(archive.read_bytes())
    data[round((len(data) - 8) * at)] ^= 1  # in the weights, or in the checksum that follows them
    archive.write_bytes(data)
    with pytest.raises(UsageError, match=r"m is not a module's archive, or is not whole: .*CRC check failed"):
        unpack(archive, tmp_path / "unpacked", "m")


@pytest.mark.parametrize(
    "handle",
    [
        "google/mobilenet-v2/tensorFlow2/130-224-classification/1",
        "https://www.kaggle.com/models/google/mobilenet-v2/frameworks/tensorFlow2/variations/130-224-classification/versions/1",
        "https://www.kaggle.com/models/google/mobilenet-v2/tensorFlow2/130-224-classification/1",
    ],
)
def test_kaggles_models_are_asked_for_by_its_api(site: str, monkeypatch: pytest.MonkeyPatch, handle: str) -> None:
    path = "/api/v1/models/google/mobilenet-v2/tensorFlow2/130-224-classification/1/download"
    assert kaggle_url(handle) == f"https://www.kaggle.com{path}"
    check_hub_handle(handle)
    monkeypatch.setenv("KAGGLE_API_ENDPOINT", site)
    monkeypatch.setenv("KAGGLE_USERNAME", "me")
    monkeypatch.setenv("KAGGLE_KEY", "secret")
    assert (downloaded(handle, Progress()) / "saved_model.pb").exists()
    assert Hub.asked[0]["path"] == path
    assert Hub.asked[0]["authorization"] == f"Basic {base64.b64encode(b'me:secret').decode()}"
    assert Hub.asked[1]["path"] == "/storage/module.tar.gz"
    assert "authorization" not in Hub.asked[1]


def test_kaggles_credentials_go_nowhere_else(site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAGGLE_USERNAME", "me")
    monkeypatch.setenv("KAGGLE_KEY", "secret")
    downloaded(f"{site}/api/v1/models/m/download", Progress())
    assert [request["path"] for request in Hub.asked] == ["/api/v1/models/m/download", "/storage/module.tar.gz"]
    assert not any("authorization" in request for request in Hub.asked)


def test_a_model_of_kaggles_that_needs_consent_says_so(site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAGGLE_API_ENDPOINT", site)
    Hub.faults += ["403"]
    with pytest.raises(UsageError, match=r"\(403 .*Agree to the model's terms .*KAGGLE_USERNAME and KAGGLE_KEY"):
        downloaded("google/gemma/keras/2b/1", Progress())


@pytest.mark.parametrize("rest", ["", "/frameworks/tensorFlow2/variations/130-224-classification"])
def test_a_page_of_kaggles_that_names_no_version_is_refused(rest: str) -> None:
    with pytest.raises(UsageError, match="page of more than one model: give that of one version"):
        check_hub_handle(f"https://www.kaggle.com/models/google/mobilenet-v2{rest}")


def test_a_name_that_cannot_be_resolved_may_pass(site: str) -> None:
    with pytest.raises(MayPass, match=r"can't be reached \(.*(resolution|known).*repeat the command.*give its path"):
        downloaded("http://nowhere.invalid/gabor.tar.gz", Progress())


def test_a_proxy_that_is_asked_is_named(site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{unused.getsockname()[1]}")
        with pytest.raises(MayPass, match=r"reached by the proxy of the variable http_proxy \(Connection refused\)"):
            downloaded("http://nowhere.invalid/gabor.tar.gz", Progress())


def test_a_server_that_never_answers_does_not_hang_the_run(site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(MayPass, match=r"reached \(.*timed out"):
        downloaded(f"http://127.0.0.1:{silent.getsockname()[1]}/gabor", Progress())


def test_a_cache_that_cannot_be_written_is_refused(site: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "file" / "cache"))
    with pytest.raises(UsageError, match="TFHUB_CACHE_DIR can't be written: Not a directory"):
        downloaded(f"{site}/gabor.tar.gz", Progress())


def test_a_cache_in_a_bucket_is_refused(site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TFHUB_CACHE_DIR", "gs://bucket/cache")
    with pytest.raises(UsageError, match="TFHUB_CACHE_DIR is a URL: set it to a folder"):
        downloaded(f"{site}/gabor.tar.gz", Progress())


def test_two_at_once_download_once(site: str) -> None:
    found: list[Path] = []
    threads = [
        threading.Thread(target=lambda: found.append(downloaded(f"{site}/m.tar.gz", Progress()))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1
    assert len(Hub.sent) == 1
