"""A whole run in this process, as a program does it: planned, stopped, resumed, shared, retried and merged."""

import contextlib
import csv
import json
import os
import re
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from typing_extensions import override

from beam_jobs import stop_request
from beam_jobs.finished import News
from beam_jobs.parts import Verdict
from beam_jobs.plan import Plan
from beam_jobs.predict_options import PredictOptions, Shard
from beam_jobs.progress import Progress
from beam_jobs.results import Account, Incomplete
from beam_jobs.run import Connect, Run, merge_folder
from beam_jobs.source_outage import SourceGone
from beam_jobs.stop_request import Interrupted
from serving.client.client_options import Endpoint
from serving.client.server_choice import Cancellable
from serving.errors import ContractError, ModelNotFound, ServerUnavailable, StorageUnavailable, UsageError
from serving.storage.stores import open_store
from tests.beam_jobs.conftest import COUNT
from tests.beam_jobs.model_server import GOLDEN, ModelServer, Refusal, image
from tests.faults.proxy import StoreFront
from tests.web_server import Web

MakeRun = Callable[..., Run]


class Told(Progress):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.started: list[tuple[int, int]] = []
        self.verdicts: list[str] = []
        self.news: list[News] = []

    @override
    def begin(self, step: str) -> None:
        self.steps.append(step)

    @override
    def start(self, plan: Plan, to_do: int, done: int) -> None:
        self.started.append((to_do, done))

    @override
    def done(self, verdict: Verdict) -> None:
        self.verdicts.append(verdict)

    @override
    def complete(self, news: News) -> None:
        self.news.append(news)


@pytest.fixture
def make_run(model: ModelServer, images: Path, tmp_path: Path) -> MakeRun:
    """A run of the images in chunks of two, unless options say otherwise."""

    def make(connect: Connect | None = None, *, told: Any = None, **options: Any) -> Run:
        given: dict[str, Any] = {
            "inputs": (str(images),),
            "output": str(tmp_path / "out"),
            "batch_size": 2,
            "requests_in_flight": 1,
            "patience_s": 0,
            "deadline_s": 30,
        }
        return Run(PredictOptions(**given | options), connect or to(model.endpoint), **told or {})

    return make


def to(endpoint: Endpoint) -> Connect:
    return lambda *_: contextlib.nullcontext(endpoint)


def nobody(version: int | None, cancellable: Cancellable) -> contextlib.AbstractContextManager[Endpoint]:
    raise AssertionError("there is nothing to ask")


def counts(account: Account | None) -> tuple[int, int, int, int]:
    assert account
    return account.listed, account.predicted, account.rejected, account.failed


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def parts(output: Path) -> dict[str, int]:
    """Time of each part by name."""
    return {path.name: path.stat().st_mtime_ns for path in output.glob("_state/parts/*/*-*.jsonl")}


class Steps:
    """Steps in before a server answers about images of the run, after n such requests; and only `times` times."""

    def __init__(self, n: int, step: Callable[[], object], times: int = 1000) -> None:
        self._left = n
        self._step = step
        self._times = times
        self._lock = threading.Lock()

    def __call__(self, files: Sequence[bytes]) -> None:
        if files[0] in GOLDEN:
            return
        with self._lock:
            self._left -= 1
            due = -self._times <= self._left < 0
        if due:
            self._step()


def unavailable() -> None:
    raise Refusal(grpc.StatusCode.UNAVAILABLE, "going away")


def test_every_image_gets_its_row_and_nothing_is_printed(
    make_run: MakeRun, images: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (images / "broken.png").write_bytes(image(1)[:60])
    assert counts(make_run().execute()) == (COUNT + 1, COUNT, 1, 0)
    found = rows(tmp_path / "out" / "predictions.csv")
    assert [row["path"] for row in found] == [f"{images}/{number:02}.png" for number in range(COUNT)]
    assert [row["label"] for row in found] == ["dark"] * 13 + ["bright"] * 3
    assert len(parts(tmp_path / "out")) > 2  # or the order would prove little
    assert capfd.readouterr() == ("", "")


def written_files(output: Path) -> dict[str, tuple[int, bytes]]:
    """Time and bytes of each file below a run's output."""
    files = [path for path in output.rglob("*") if path.is_file()]
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def test_a_finished_run_asks_nobody_and_writes_nothing(make_run: MakeRun, tmp_path: Path) -> None:
    first = make_run().execute()
    before = written_files(tmp_path / "out")
    assert make_run(nobody).execute() == first
    assert written_files(tmp_path / "out") == before


def told(make_run: MakeRun, newest: int | None = None, **options: Any) -> list[str]:
    """What is said of a run that is complete."""
    progress = Told()
    make_run(nobody, told={"progress": progress, "newest": lambda: newest}, **options).execute()
    (news,) = progress.news
    return list(news.lines())


def test_a_finished_run_says_since_when_and_what_is_new(make_run: MakeRun, images: Path, tmp_path: Path) -> None:
    (tmp_path / "l.txt").write_text(f"{tmp_path}/never.png\n{images}/01.png\n")
    inputs = [str(images), str(tmp_path / "l.txt")]
    make_run(inputs=inputs).execute()
    before = written_files(tmp_path / "out")
    since = json.loads((tmp_path / "out" / "run.json").read_text())["finished"].replace("T", " ").replace("+00:00", "")
    first = f"complete since {since} UTC, with version 1 of brightness: nothing is left to do"
    assert told(make_run, inputs=inputs) == [first]
    assert told(make_run, inputs=inputs, newest=1) == [first]
    (images / "new.png").write_bytes(image(1))
    (images / "00.png").unlink()
    (tmp_path / "l.txt").write_text("a.png\nb.png\n")
    said = told(make_run, inputs=inputs, newest=3)
    assert said[0] == first
    assert (
        "results: 3 images more in the inputs; 2 images no longer in them; version 3 of the model. `fresh`" in said[1]
    )
    (tmp_path / "l.txt").unlink()
    (unknown,) = told(make_run, inputs=inputs)[1:]
    assert unknown.startswith(f"it is not known what is new since then: `inputs` {tmp_path}/l.txt: no such file")
    assert written_files(tmp_path / "out") == before


def test_results_that_a_user_edited_are_left_until_they_are_merged_again(make_run: MakeRun, tmp_path: Path) -> None:
    make_run().execute()
    output = tmp_path / "out"
    written = ["run.json", "predictions.csv", "rejected.csv", "failed.csv"]
    before = {name: (output / name).read_bytes() for name in written}
    os.utime(output / "failed.csv", (1, 1))  # as a copy has another time
    assert len(told(make_run)) == 1
    (output / "predictions.csv").write_bytes(before["predictions.csv"].replace(b"dark", b"grey"))
    (output / "run.json").write_bytes(before["run.json"] + b"\n")
    (said,) = told(make_run)[1:]
    assert said.startswith("predictions.csv, run.json: changed since, and left as they are")
    assert b"grey" in (output / "predictions.csv").read_bytes()
    merge_folder(str(output))
    assert {name: (output / name).read_bytes() for name in written} == before
    assert len(told(make_run)) == 1


def test_a_result_that_is_gone_is_written_again(make_run: MakeRun, tmp_path: Path) -> None:
    make_run().execute()
    before = (tmp_path / "out" / "run.json").read_bytes()
    (tmp_path / "out" / "predictions.csv").unlink()
    assert counts(make_run(nobody).execute()) == (COUNT, COUNT, 0, 0)
    assert len(rows(tmp_path / "out" / "predictions.csv")) == COUNT
    assert (tmp_path / "out" / "run.json").read_bytes() == before


def test_a_retry_of_nothing_changes_nothing(make_run: MakeRun, tmp_path: Path) -> None:
    make_run().execute()
    before = written_files(tmp_path / "out")
    assert counts(make_run(retry_failed=True).execute()) == (COUNT, COUNT, 0, 0)
    assert written_files(tmp_path / "out") == before


def test_a_part_that_is_done_again_is_counted_again(make_run: MakeRun, images: Path, tmp_path: Path) -> None:
    make_run().execute()
    (images / "00.png").write_bytes(b"<html>")
    next((tmp_path / "out").glob("_state/parts/*/0-00000000.jsonl")).unlink()
    assert counts(make_run().execute()) == (COUNT, COUNT - 1, 1, 0)
    assert counts(make_run(nobody).execute()) == (COUNT, COUNT - 1, 1, 0)


def test_a_run_that_is_merged_by_itself_keeps_its_options(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"server": "localhost:8500", "model_name": "brightness", "readers": 7}
    monkeypatch.setattr(Run, "_merge", lambda *_: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        make_run(**options).execute()
    merge_folder(str(tmp_path / "out"))
    found = json.loads((tmp_path / "out" / "run.json").read_text())["options"]
    assert (found["server"], found["readers"], found["batch_size"]) == ("localhost:8500", 7, 2)


def test_runs_follow_one_another_in_a_process(make_run: MakeRun, tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert counts(make_run(output=str(tmp_path / name)).execute()) == (COUNT, COUNT, 0, 0)


def test_a_run_in_another_thread(make_run: MakeRun) -> None:
    with ThreadPoolExecutor(1) as threads:
        assert counts(threads.submit(make_run().execute).result()) == (COUNT, COUNT, 0, 0)


def test_the_caller_is_told_of_the_start_and_of_each_row(make_run: MakeRun) -> None:
    progress = Told()
    make_run(told={"progress": progress}).execute()
    assert progress.started == [(COUNT, 0)]
    assert progress.verdicts == ["predicted"] * COUNT
    assert progress.steps[1:] == ["checking 2 golden images", "listing the images", "writing the results"]


def test_what_was_done_before_an_error_is_not_done_again(make_run: MakeRun, model: ModelServer, tmp_path: Path) -> None:
    model.step = Steps(5, unavailable)
    with pytest.raises(ServerUnavailable, match="going away") as error:
        make_run().execute()
    assert error.value.exit_code == 75
    assert "while running" not in str(error.value)
    assert not (tmp_path / "out" / "run.json").exists()
    done = parts(tmp_path / "out")
    assert 0 < len(done) < 8
    model.step = lambda files: None
    model.asked.clear()
    progress = Told()
    again = make_run(told={"progress": progress})
    assert counts(again.execute()) == (COUNT, COUNT, 0, 0)
    assert done.items() <= parts(tmp_path / "out").items()
    assert len(model.asked) == COUNT - 2 * len(done)
    assert progress.started == [(len(model.asked), 2 * len(done))]


def test_a_stop_ends_the_run_and_not_the_next_one(make_run: MakeRun, model: ModelServer, tmp_path: Path) -> None:
    model.step = Steps(5, stop_request.request_stop, times=1)
    with pytest.raises(Interrupted, match="the same command continues"):
        make_run().execute()
    assert not stop_request.STOP.is_set()
    model.step = lambda files: None
    assert counts(make_run().execute()) == (COUNT, COUNT, 0, 0)


def test_ctrl_c_where_nobody_handles_it_ends_the_run_resumable(make_run: MakeRun, model: ModelServer) -> None:
    main = threading.main_thread().ident
    assert main
    model.step = Steps(5, lambda: signal.pthread_kill(main, signal.SIGINT), times=1)
    with pytest.raises(Interrupted):
        make_run().execute()
    model.step = lambda files: None
    assert counts(make_run().execute()) == (COUNT, COUNT, 0, 0)


def test_two_first_processes_agree_on_one_plan(make_run: MakeRun, model: ModelServer, tmp_path: Path) -> None:
    both = threading.Barrier(2)

    @contextlib.contextmanager
    def connect(version: int | None, cancellable: Cancellable) -> Iterator[Endpoint]:
        assert version is None
        both.wait(60)  # neither has found a plan
        yield model.endpoint

    with ThreadPoolExecutor(2) as threads:
        first, second = (threads.submit(make_run(connect).execute) for _ in range(2))
        assert counts(first.result()) == counts(second.result()) == (COUNT, COUNT, 0, 0)
    assert len(list((tmp_path / "out" / "_state" / "parts").iterdir())) == 1
    assert len(parts(tmp_path / "out")) == 8


@pytest.fixture
def overtaken(make_run: MakeRun, model: ModelServer) -> None:
    """The next run is overtaken by another one, between its question for the version and its plan."""

    def overtake(files: Sequence[bytes]) -> None:
        model.step = lambda files: None
        model.versions.append(2)
        make_run().execute()

    model.step = overtake


@pytest.mark.usefixtures("overtaken")
def test_a_version_that_is_published_meanwhile_is_adopted_with_the_others_plan(
    make_run: MakeRun, tmp_path: Path
) -> None:
    assert counts(make_run().execute()) == (COUNT, COUNT, 0, 0)
    assert json.loads((tmp_path / "out" / "run.json").read_text())["model"]["version"] == 2


@pytest.mark.usefixtures("overtaken")
def test_a_version_that_was_asked_for_is_not_exchanged(make_run: MakeRun, model: ModelServer) -> None:
    wanted = Endpoint(address=model.address, model_name=model.endpoint.model_name, version=1)
    with pytest.raises(UsageError, match="model_version 2 there, 1 now"):
        make_run(to(wanted)).execute()


def test_a_run_keeps_its_version(make_run: MakeRun, model: ModelServer, tmp_path: Path) -> None:
    model.step = Steps(5, unavailable)
    with pytest.raises(ServerUnavailable):
        make_run().execute()
    model.step = lambda files: None
    model.versions.append(2)
    told: list[int | None] = []

    def connect(version: int | None, cancellable: Cancellable) -> contextlib.AbstractContextManager[Endpoint]:
        told.append(version)
        return contextlib.nullcontext(model.endpoint)

    make_run(connect).execute()
    assert told == [1]
    assert json.loads((tmp_path / "out" / "run.json").read_text())["model"]["version"] == 1


def test_the_last_shard_merges(make_run: MakeRun, tmp_path: Path) -> None:
    assert make_run(shard=Shard(1, 2)).execute() is None
    assert len(parts(tmp_path / "out")) == 4
    assert not (tmp_path / "out" / "run.json").exists()
    with pytest.raises(Incomplete, match="have no outcome yet"):
        merge_folder(str(tmp_path / "out"))
    assert counts(make_run(shard=Shard(0, 2)).execute()) == (COUNT, COUNT, 0, 0)


def test_shards_retry_only_when_all_are_done(make_run: MakeRun, images: Path) -> None:
    """Before that nobody knows of all rows that failed."""
    (images / "00.png").rename(images / "away")
    (images / "00.png").symlink_to(images / "nowhere")
    (images / "away").unlink()
    assert make_run(shard=Shard(0, 2), retry_failed=True).execute() is None
    assert counts(make_run(shard=Shard(1, 2)).execute()) == (COUNT, COUNT - 1, 1, 0)
    (images / "00.png").unlink()
    (images / "00.png").write_bytes(image(3))
    assert counts(make_run(shard=Shard(0, 2), retry_failed=True).execute()) == (COUNT, COUNT, 0, 0)


def test_failed_rows_are_asked_for_again_and_no_others(make_run: MakeRun, model: ModelServer, tmp_path: Path) -> None:
    bad = [image(33), image(43)]

    def refuse(files: Sequence[bytes]) -> None:
        if any(file in bad for file in files):
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, "not now")

    model.step = refuse
    assert counts(make_run().execute()) == (COUNT, COUNT - 2, 0, 2)
    assert counts(make_run(retry_failed=True).execute()) == (COUNT, COUNT - 2, 0, 2)
    model.step = Steps(1, unavailable)
    with pytest.raises(ServerUnavailable):
        make_run(retry_failed=True).execute()
    assert not (tmp_path / "out" / "run.json").exists()  # nobody takes half a retry for the result
    model.step = lambda files: None
    model.asked.clear()
    assert counts(make_run(retry_failed=True).execute()) == (COUNT, COUNT, 0, 0)
    assert set(model.asked) <= set(bad)
    assert make_run(nobody).execute()


@pytest.mark.parametrize("place", ["disk", "web", "s3"])
def test_a_file_that_was_half_copied_when_it_was_read_is_asked_for_again(
    make_run: MakeRun, model: ModelServer, images: Path, tmp_path: Path, place: str, request: pytest.FixtureRequest
) -> None:
    half, whole = image(1)[:60], image(1)
    with Web({"/a.png": half, "/page.png": b"<html>", "/b.png": image(2)}) as web:
        if place == "web":
            inputs = [written(tmp_path / "urls.txt", *(web.url + path for path in web.files))]
        elif place == "disk":
            for path, data in web.files.items():
                (tmp_path / "few").mkdir(exist_ok=True)
                (tmp_path / f"few{path}").write_bytes(data)
            inputs = [str(tmp_path / "few")]
        else:
            folder = request.getfixturevalue("s3_folder")
            for path, data in web.files.items():
                open_store(folder).create(f"{folder}{path}", data)
            inputs = [folder]
        run = {"inputs": inputs, "retry_failed": True}
        assert counts(make_run(**run).execute()) == (3, 1, 2, 0)
        model.asked.clear()
        assert counts(make_run(**run).execute()) == (3, 1, 2, 0)
        assert set(model.asked) <= set(GOLDEN)  # neither has changed
        if place == "disk":
            (tmp_path / "few" / "a.png").write_bytes(whole)
        elif place == "web":
            web.files["/a.png"] = whole
        else:
            with open_store(folder).replacing(f"{folder}/a.png") as file:
                file.write(whole)
        assert counts(make_run(**run).execute()) == (3, 2, 1, 0)


def test_options_that_would_mix_results_are_refused_before_anybody_is_asked(make_run: MakeRun) -> None:
    make_run(top_k=2).execute()
    changes: dict[str, dict[str, Any]] = {
        "top_k 2 there, 1 now": {"top_k": 1},
        "format 'csv' there, 'kaggle' now": {"format": "kaggle"},
        "shards 1 there, 2 now": {"shard": Shard(0, 2)},
        "model_name 'brightness' there, 'other' now": {"model_name": "other"},
    }
    for says, change in changes.items():
        with pytest.raises(UsageError, match=says):
            make_run(nobody, **{"top_k": 2} | change).execute()


def test_a_fresh_run_forgets_the_old_one_only_when_it_can_begin(
    make_run: MakeRun, model: ModelServer, tmp_path: Path
) -> None:
    make_run().execute()
    before = (tmp_path / "out" / "predictions.csv").read_bytes()
    assert model.contract.golden
    other = model.contract.golden.model_copy(update={"references": {"encoded": [[1, 0], [0, 1]]}})
    right, model.contract = model.contract, model.contract.model_copy(update={"golden": other})
    with pytest.raises(ContractError, match="does not answer as the model did"):
        make_run(fresh=True, top_k=1).execute()
    assert (tmp_path / "out" / "predictions.csv").read_bytes() == before
    model.contract = right
    assert counts(make_run(fresh=True, top_k=1).execute()) == (COUNT, COUNT, 0, 0)
    assert list(rows(tmp_path / "out" / "predictions.csv")[0]) == ["path", "label", "score"]
    assert len(list((tmp_path / "out" / "_state" / "parts").rglob("*.jsonl"))) == 8


def test_shards_do_not_start_afresh(make_run: MakeRun) -> None:
    with pytest.raises(UsageError, match="`fresh` with `shard`"):
        make_run(fresh=True, shard=Shard(0, 2))


def test_images_that_are_gone_are_told_before_the_server_is_asked(
    make_run: MakeRun, model: ModelServer, images: Path
) -> None:
    model.step = Steps(5, unavailable)
    with pytest.raises(ServerUnavailable):
        make_run().execute()
    os.rename(images, images.parent / "away")
    with pytest.raises(SourceGone, match=str(images)):
        make_run(nobody).execute()


@pytest.mark.parametrize(
    ("given", "message"),
    [("", "`inputs` is empty"), ("nowhere", "`inputs` nowhere: no such file"), ("s3a://b/x", "spell it s3://BUCKET")],
)
def test_inputs_that_name_nothing_are_told_before_the_server_is_asked(
    make_run: MakeRun, images: Path, given: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        make_run(nobody, inputs=[str(images), given]).execute()


@pytest.fixture
def listing(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator["ListOnTheWeb"]:
    """A list of all images on the web, which is read twice: up to its first images, and whole by the listing."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    listing = ListOnTheWeb(web)
    yield listing
    assert not listing.was_waited_for
    assert list((tmp_path / "temporary").iterdir()) == []


class ListOnTheWeb:
    """A list that is given to the listing only when `open` is set."""

    def __init__(self, web: Web) -> None:
        self.inputs = [f"{web.url}/urls.txt"]
        self.asked = threading.Event()
        """Set when the listing has asked for the list."""
        self.open = threading.Event()
        self.was_waited_for = False
        """Has it been waited for to the end, although it was not open?"""
        self.lines = [web.url + path for path in web.files]
        self.more: list[str] = []
        """Lines that only the listing gets to see."""
        web.answers["/urls.txt"] = self._answer
        self._times = 0

    def _answer(self) -> bytes:
        self._times += 1
        if self._times == 1:
            return "\n".join(self.lines).encode()
        self.asked.set()
        self.was_waited_for = not self.open.wait(60)
        return "\n".join([*self.lines, *self.more]).encode()


def test_images_are_listed_while_the_server_is_asked(
    make_run: MakeRun, model: ModelServer, listing: ListOnTheWeb
) -> None:
    def hold_the_golden_images(files: Sequence[bytes]) -> None:
        if not listing.asked.wait(60):
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, "nobody lists the images")

    model.step = hold_the_golden_images
    listing.open.set()
    assert counts(make_run(inputs=listing.inputs).execute()) == (COUNT, COUNT, 0, 0)


@pytest.fixture
def held(model: ModelServer) -> Iterator[threading.Event]:
    """The server doesn't answer before this is set, nor is it started."""
    held = threading.Event()
    was_waited_for: list[Sequence[bytes]] = []
    model.step = lambda files: None if held.wait(60) else was_waited_for.append(files)
    yield held
    assert was_waited_for == []
    held.set()


@pytest.mark.parametrize("waits_for", ["start", "answer"])
def test_an_error_of_the_listing_ends_the_wait_for_the_server(
    make_run: MakeRun, model: ModelServer, listing: ListOnTheWeb, held: threading.Event, waits_for: str, tmp_path: Path
) -> None:
    @contextlib.contextmanager
    def start(version: int | None, cancellable: Cancellable) -> Iterator[Endpoint]:
        with cancellable(held.set):
            assert held.wait(60)
        raise ServerUnavailable("the start was broken off", "unix:x")
        yield

    listing.more = ["ftp://nowhere/1.jpg"]
    listing.open.set()
    with pytest.raises(UsageError, match=f"line {COUNT + 1}: ftp:// is not supported"):
        make_run(start if waits_for == "start" else None, inputs=listing.inputs, deadline_s=600).execute()
    assert held.is_set() == (waits_for == "start")
    assert model.asked == []
    assert not (tmp_path / "out").exists()


def test_an_error_of_the_server_does_not_wait_for_the_listing(
    make_run: MakeRun, model: ModelServer, listing: ListOnTheWeb
) -> None:
    @contextlib.contextmanager
    def start(version: int | None, cancellable: Cancellable) -> Iterator[Endpoint]:
        assert listing.asked.wait(60)
        yield model.endpoint

    model.versions.clear()
    with pytest.raises(ModelNotFound):
        make_run(start, inputs=listing.inputs).execute()
    assert not listing.open.is_set()
    listing.open.set()


def test_a_stop_ends_the_wait_for_the_listing(make_run: MakeRun, listing: ListOnTheWeb, tmp_path: Path) -> None:
    class StopsAtTheListing(Told):
        @override
        def begin(self, step: str) -> None:
            if step == "listing the images":
                assert listing.asked.wait(60)
                stop_request.request_stop()

    with pytest.raises(Interrupted):
        make_run(inputs=listing.inputs, told={"progress": StopsAtTheListing()}).execute()
    assert not listing.open.is_set()
    listing.open.set()
    assert not (tmp_path / "out").exists()


def test_a_listing_that_fails_leaves_the_run_that_fresh_would_replace(
    make_run: MakeRun, images: Path, tmp_path: Path, listing: ListOnTheWeb
) -> None:
    make_run().execute()
    before = written_files(tmp_path / "out")
    listing.more = ["ftp://nowhere/1.jpg"]
    listing.open.set()
    with pytest.raises(UsageError):
        make_run(inputs=listing.inputs, fresh=True).execute()
    assert written_files(tmp_path / "out") == before


@pytest.fixture
def web() -> Iterator[Web]:
    with Web({f"/{number:02}.png": image(10 * number + 3) for number in range(COUNT)}) as running:
        yield running


def written(path: Path, *urls: str) -> str:
    path.write_text("\n".join(urls))
    return str(path)


@pytest.mark.parametrize("bad", ["500", "429", "cut.png", "cutchunk.png", "dripping.png", "silent.png"])
def test_what_alone_cannot_be_read_costs_only_itself(make_run: MakeRun, web: Web, tmp_path: Path, bad: str) -> None:
    urls = [f"{web.url}/{bad}", *(web.url + path for path in web.files)]
    inputs = [written(tmp_path / "urls.txt", *urls)]
    assert counts(make_run(inputs=inputs).execute()) == (COUNT + 1, COUNT, 0, 1)
    (failed,) = rows(tmp_path / "out" / "failed.csv")
    assert (failed["path"], failed["stage"], failed["reason"]) == (urls[0], "read", "unreadable")
    assert "while others were read" in failed["message"]
    again = make_run(inputs=inputs, retry_failed=True)  # in which nothing else is read
    assert counts(again.execute()) == (COUNT + 1, COUNT, 0, 1)
    web.files[f"/{bad}"] = image(1)
    again = make_run(inputs=inputs, retry_failed=True)
    assert counts(again.execute()) == (COUNT + 1, COUNT + 1, 0, 0)


def test_one_web_server_of_many_that_is_gone_costs_only_its_images(make_run: MakeRun, web: Web, tmp_path: Path) -> None:
    gone = [f"http://127.0.0.1:1/{number}.png" for number in range(40)]
    inputs = [written(tmp_path / "urls.txt", *gone, *(web.url + path for path in web.files))]
    assert counts(make_run(inputs=inputs).execute()) == (COUNT + 40, COUNT, 0, 40)
    assert [row["path"] for row in rows(tmp_path / "out" / "failed.csv")] == sorted(gone)


@pytest.mark.parametrize("begun", [False, True])
def test_a_web_server_that_answers_nothing_stops_the_run(
    make_run: MakeRun, web: Web, tmp_path: Path, begun: bool
) -> None:
    files, web.files = web.files, {}
    inputs = [written(tmp_path / "urls.txt", *(f"{web.url}/500?{path}" for path in files))]
    if begun:
        inputs = [written(tmp_path / "urls.txt", *(web.url + path for path in [*files, "/500"]))]
        web.files = files
        assert counts(make_run(inputs=inputs).execute()) == (COUNT + 1, COUNT, 0, 1)
        web.fail = True
    with pytest.raises(StorageUnavailable, match="HTTP 50") as error:
        make_run(inputs=inputs, retry_failed=begun).execute()
    assert error.value.exit_code == 75
    assert not (tmp_path / "out" / "run.json").exists()
    assert not (tmp_path / "out" / "failed.csv").exists() or begun


SIGNED = "{}?X-Amz-Date=1&X-Amz-Signature={}"


@pytest.mark.parametrize("place", ["disk", "web"])
def test_links_that_are_signed_anew_are_the_same_images(
    make_run: MakeRun, web: Web, tmp_path: Path, place: str
) -> None:
    """Also in a list that is itself on the web, by a link of the day."""
    images = dict(web.files)

    def publish(signature: str) -> list[str]:
        urls = [SIGNED.format(web.url + path, signature) for path in images]
        path = written(tmp_path / "urls.txt", *urls)
        web.files["/urls.txt"] = Path(path).read_bytes()
        return [path if place == "disk" else SIGNED.format(f"{web.url}/urls.txt", signature)]

    web.files.clear()
    web.signature = "=old"
    inputs = publish("old")
    assert counts(make_run(inputs=inputs).execute()) == (COUNT, 0, COUNT, 0)
    web.signature = "=new"  # what was signed before has expired
    web.files |= images
    inputs = publish("new")
    assert counts(make_run(inputs=inputs, retry_failed=True).execute()) == (COUNT, COUNT, 0, 0)
    listed = [row["path"] for row in rows(tmp_path / "out" / "predictions.csv")]
    assert listed == sorted(SIGNED.format(web.url + path, "old") for path in images)


def test_a_run_goes_on_with_links_that_are_signed_anew(
    make_run: MakeRun, web: Web, model: ModelServer, tmp_path: Path
) -> None:
    links = [SIGNED.format(web.url + path, "{}") for path in web.files]
    inputs = [written(tmp_path / "urls.txt", *(link.format("old") for link in links))]
    model.step = Steps(5, unavailable)
    with pytest.raises(ServerUnavailable):
        make_run(inputs=inputs).execute()
    model.step = lambda files: None
    web.signature = "=new"
    written(tmp_path / "urls.txt", *(link.format("new") for link in reversed(links)))
    assert counts(make_run(inputs=inputs).execute()) == (COUNT, COUNT, 0, 0)


def test_a_list_that_is_gone_leaves_the_links(
    make_run: MakeRun, web: Web, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    inputs = [written(tmp_path / "urls.txt", *(web.url + path for path in [*web.files, "/500"]))]
    make_run(inputs=inputs).execute()
    (tmp_path / "urls.txt").unlink()
    web.files["/500"] = image(1)
    assert counts(make_run(inputs=inputs, retry_failed=True).execute()) == (COUNT + 1, COUNT + 1, 0, 0)
    assert "links stay those that the run began with" in caplog.text


def test_one_image_that_is_named_in_several_ways_is_one(
    make_run: MakeRun, web: Web, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(images.parent)
    names = ["./in/00.png", "in/00.png", str(images / "00.png"), "in//01.png"]
    links = [SIGNED.format(f"{web.url}/02.png", signature) for signature in "ab"]
    account = make_run(inputs=[written(tmp_path / "list.txt", *names, *links)]).execute()
    assert account
    assert (account.listed, account.predicted, account.duplicates) == (3, 3, 3)
    assert [row["path"] for row in rows(tmp_path / "out" / "predictions.csv")] == [
        "./in/00.png",
        links[0],
        "in//01.png",
    ]


def test_an_image_that_is_not_there_beside_one_that_cannot_be_read(make_run: MakeRun, web: Web, tmp_path: Path) -> None:
    """What is looked for beside it does not answer, and tells nothing."""
    urls = [f"{web.url}/{name}" for name in ("500", "404")]
    inputs = [written(tmp_path / "urls.txt", *urls, *(web.url + path for path in list(web.files)[:1]))]
    assert counts(make_run(inputs=inputs).execute()) == (3, 1, 1, 1)
    web.files.clear()
    web.files["/404"] = image(1)
    assert counts(make_run(inputs=inputs, retry_failed=True).execute()) == (3, 2, 0, 1)


@pytest.mark.parametrize("kind", ["s3", "gs", "az"])
@pytest.mark.parametrize("how", ["broken", "cut", "trickling"])
def test_an_object_that_alone_cannot_be_read_costs_only_itself(
    make_run: MakeRun, images: Path, tmp_path: Path, kind: str, how: str, request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    folder = request.getfixturevalue(f"{kind}_folder")
    storage = open_store(folder)
    for path in images.iterdir():
        storage.create(f"{folder}/in/{path.name}", path.read_bytes())
    variable, upstream = {
        "s3": ("AWS_ENDPOINT_URL", os.environ.get("AWS_ENDPOINT_URL", "")),
        "gs": ("STORAGE_EMULATOR_HOST", os.environ.get("STORAGE_EMULATOR_HOST", "")),
        "az": ("AZURE_STORAGE_CONNECTION_STRING", os.environ.get("AZURE_STORAGE_CONNECTION_STRING", "")),
    }[kind]
    server = re.search(r"http://[\d.:]+", upstream)
    assert server
    with StoreFront(server[0]) as front:
        monkeypatch.setenv(variable, upstream.replace(server[0], front.url))
        setattr(front, how, "07.png")
        run = make_run(inputs=[f"{folder}/in"], wire="encoded")
        assert counts(run.execute()) == (COUNT, COUNT - 1, 0, 1)
        (failed,) = rows(tmp_path / "out" / "failed.csv")
        assert (failed["path"], failed["reason"]) == (f"{folder}/in/07.png", "unreadable")
        setattr(front, how, "no such name")
        assert counts(make_run(inputs=[f"{folder}/in"], retry_failed=True).execute()) == (COUNT, COUNT, 0, 0)


def test_a_folder_without_a_run_is_not_merged(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no run in it \(no .*_state\)"):
        merge_folder(str(tmp_path))
