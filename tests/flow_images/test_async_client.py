"""`AsyncClient`: the same answers as `Client`, and what an event loop brings: many calls, cancellation, closing."""

import asyncio
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import grpc
import numpy as np
import pytest
from starlette.testclient import TestClient

from flow_images.async_client import AsyncClient
from flow_images.classification import Classification
from flow_images.client import Client
from serving.client.client_options import TlsOptions
from serving.errors import (
    AccessDenied,
    ClientClosed,
    DeadlineExceeded,
    InvalidRequest,
    ModelNotFound,
    ServerUnavailable,
    ServingError,
    StorageUnavailable,
    UsageError,
)
from tests.conftest import MODEL_NAME
from tests.faults.front import Front
from tests.serving.server.ports.test_grpc_port import Authority

T = TypeVar("T")


@pytest.fixture(scope="module")
def files(drawn: Path) -> list[Path]:
    return sorted((drawn / "train").iterdir())[:10]


@pytest.fixture
def front(server: str) -> Iterator[Front]:
    """A server in front of the real one, whose calls can be held."""
    with Front(server) as running:
        yield running


def ask(address: str, call: Callable[[AsyncClient], Awaitable[T]], **options: Any) -> T:
    """The value of a call on an event loop of its own."""

    async def run() -> T:
        async with AsyncClient(address, MODEL_NAME, **options) as client:
            return await call(client)

    return asyncio.run(run())


def test_both_clients_give_the_same_results(server: str, files: list[Path]) -> None:
    images: list[Any] = [*files, "none.jpg", files[0].read_bytes(), b"broken", np.zeros([8, 8, 3], np.uint8)]
    found = ask(server, lambda client: client.classify(images), batch_size=4)
    with Client(server, MODEL_NAME, batch_size=4) as client:
        expected = client.classify(images)
    assert list(map(unscored, found)) == list(map(unscored, expected))
    assert len(found) == len(images)
    for one, other in zip(found, expected, strict=True):
        assert [score for _, score in one.top] == pytest.approx([score for _, score in other.top], abs=1e-4)


def unscored(result: Classification) -> tuple[Any, ...]:
    return result.image, result.verdict, result.label, result.reason, result.message


def test_both_clients_tell_the_same_of_a_model(server: str) -> None:
    async def all_(client: AsyncClient) -> tuple[Any, ...]:
        return await client.contract(), await client.versions(), round(await client.check(), 4)

    with Client(server, MODEL_NAME) as client:
        assert ask(server, all_) == (client.contract(), client.versions(), round(client.check(), 4))


def test_both_clients_raise_the_same_errors(server: str) -> None:
    def raised(call: Callable[[], object]) -> tuple[type[Exception], str]:
        with pytest.raises(Exception) as error:  # noqa: PT011
            call()
        return error.type, str(error.value)

    wrong = {"images": np.zeros([3], np.float32)}
    with Client(server, MODEL_NAME) as client:
        expected = raised(lambda: client.predict(wrong))
    assert raised(lambda: ask(server, lambda client: client.predict(wrong))) == expected
    assert expected[0] is InvalidRequest
    with Client(server, MODEL_NAME, version=0) as client:
        expected = raised(client.contract)
    assert raised(lambda: ask(server, lambda client: client.contract(), version=0)) == expected
    assert expected[0] is ModelNotFound
    assert raised(lambda: AsyncClient("localhost", "m")) == raised(lambda: Client("localhost", "m"))


def test_200_calls_at_once_share_one_client(server: str, files: list[Path]) -> None:
    async def many(client: AsyncClient) -> list[Classification]:
        return await asyncio.gather(*(client.classify(files[number % len(files)]) for number in range(200)))

    found = ask(server, many)
    with Client(server, MODEL_NAME) as client:
        expected = client.classify(files)
    assert [result.label for result in found] == [result.label for result in expected] * 20
    assert all(result.ok for result in found)


def test_only_one_of_many_callers_asks_for_the_contract(front: Front, files: list[Path]) -> None:
    async def many(client: AsyncClient) -> list[Classification]:
        return await asyncio.gather(*(client.classify(file) for file in files))

    assert all(result.ok for result in ask(front.address, many))
    assert front.asked == 1 + len(files)


def test_images_come_one_by_one(server: str, files: list[Path]) -> None:
    async def each(client: AsyncClient) -> list[str | int]:
        return [result.image async for result in client.classify_each(file for file in files)]

    assert ask(server, each, batch_size=3) == list(map(str, files))


def test_a_cancelled_call_ends_its_request(front: Front, files: list[Path]) -> None:
    async def cancel(client: AsyncClient) -> Classification:
        await client.contract()
        front.open.clear()
        task = asyncio.create_task(client.classify(files[0]))
        await asyncio.to_thread(front.hanging.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.to_thread(front.abandoned.wait)
        front.open.set()
        return await client.classify(files[0])

    assert ask(front.address, cancel).ok


def test_a_first_call_that_is_cancelled_keeps_no_other_from_connecting(front: Front, files: list[Path]) -> None:
    async def cancel(client: AsyncClient) -> Classification:
        front.open.clear()
        first = asyncio.create_task(client.classify(files[0]))
        await asyncio.to_thread(front.hanging.wait)
        second = asyncio.create_task(client.classify(files[1]))
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        front.open.set()
        return await second

    assert ask(front.address, cancel).ok


def test_a_server_that_is_too_slow_misses_the_deadline(front: Front) -> None:
    front.open.clear()
    with pytest.raises(DeadlineExceeded, match=r"after 0\.3 s: no answer yet"):
        ask(front.address, lambda client: client.classify(b""), deadline_s=0.3, patience_s=0)


def test_a_slow_server_does_not_block_the_loop(front: Front, files: list[Path]) -> None:
    async def wait(client: AsyncClient) -> Classification:
        front.open.clear()
        task = asyncio.create_task(client.classify(files[0]))
        await asyncio.to_thread(front.hanging.wait)
        for _ in range(1000):
            await asyncio.sleep(0)
        assert not task.done()
        front.open.set()
        return await task

    assert ask(front.address, wait).ok


def test_bytes_and_the_program_wait_for_no_read_of_others(server: str, files: list[Path]) -> None:
    async def beside(client: AsyncClient) -> None:
        await client.contract()
        with socket.create_server(("127.0.0.1", 0), backlog=64) as silent:
            url = f"http://127.0.0.1:{silent.getsockname()[1]}/rex.jpg"
            reads = [asyncio.create_task(client.classify(url)) for _ in range(40)]
            silent.settimeout(30)
            connections = [await asyncio.to_thread(silent.accept) for _ in reads]
            found = await client.classify([files[0].read_bytes(), files[1].read_bytes()])
            assert [result.ok for result in found] == [True, True]
            assert (await client.classify(files[0])).ok
            assert await asyncio.get_running_loop().getaddrinfo("localhost", 1)
            assert not any(read.done() for read in reads)
            await client.close()
            for connection, _ in connections:
                connection.close()
        errors = await asyncio.gather(*reads, return_exceptions=True)
        assert {type(error) for error in errors} <= {ClientClosed, StorageUnavailable}

    ask(server, beside, patience_s=20)


def test_a_server_that_is_away_is_an_error() -> None:
    with pytest.raises(ServerUnavailable, match="tried for"):
        ask("127.0.0.1:1", lambda client: client.classify(b""), patience_s=1)


@pytest.mark.parametrize("way", [Client, AsyncClient])
@pytest.mark.parametrize("silent", [False, True], ids=["away", "silent"])
def test_callers_of_the_first_call_wait_for_their_own_patience_only(
    front: Front, way: type[Client | AsyncClient], silent: bool
) -> None:
    front.open.clear()
    address = front.address if silent else "127.0.0.1:1"
    ends = ten_first_calls(way, address, patience_s=2, deadline_s=0.5)
    assert len(ends) == 10
    for seconds, error in ends:
        assert isinstance(error, DeadlineExceeded if silent else ServerUnavailable)
        told = re.search(r"tried for (\d+) s", str(error))
        assert told, error
        assert abs(int(told[1]) - seconds) < 1
        assert seconds < 2 + 0.5 + 1


def ten_first_calls(way: type[Client | AsyncClient], address: str, **options: Any) -> list[tuple[float, Exception]]:
    """How long each of ten calls at once took to fail, and its error."""

    async def each(client: AsyncClient) -> list[tuple[float, Exception]]:
        async def one() -> tuple[float, Exception]:
            started = time.monotonic()
            with pytest.raises(ServingError) as error:
                await client.classify(b"")
            return time.monotonic() - started, error.value

        return await asyncio.gather(*(one() for _ in range(10)))

    if way is AsyncClient:
        return ask(address, each, **options)

    def one(_: int) -> tuple[float, Exception]:
        started = time.monotonic()
        with pytest.raises(ServingError) as error:
            client.classify(b"")
        return time.monotonic() - started, error.value

    with Client(address, MODEL_NAME, **options) as client, ThreadPoolExecutor(10) as threads:
        return list(threads.map(one, range(10)))


def test_closing_ends_the_calls_in_flight(front: Front, files: list[Path]) -> None:
    async def close(client: AsyncClient) -> list[Any]:
        await client.contract()
        front.open.clear()
        tasks = [asyncio.create_task(client.classify(file)) for file in files]
        await asyncio.to_thread(front.hanging.wait)
        await client.close()
        return await asyncio.gather(*tasks, client.classify(files[0]), return_exceptions=True)

    errors = ask(front.address, close)
    assert {type(error) for error in errors} == {ClientClosed}
    assert "the client is closed" in str(errors[0])


def test_closing_ends_a_wait_for_a_server(files: list[Path]) -> None:
    async def close(client: AsyncClient) -> Any:
        task = asyncio.create_task(client.classify(files[0]))
        await asyncio.sleep(0)
        await client.close()
        return (await asyncio.gather(task, return_exceptions=True))[0]

    assert isinstance(ask("127.0.0.1:1", close, patience_s=600), ClientClosed)


def test_closing_a_client_of_threads_ends_its_calls_in_flight(front: Front, files: list[Path]) -> None:
    client = Client(front.address, MODEL_NAME)
    client.contract()
    front.open.clear()
    errors: list[Exception] = []

    def classify() -> None:
        try:
            client.classify(files[0])
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=classify)
    thread.start()
    front.hanging.wait()
    client.close()
    thread.join()
    assert [type(error) for error in errors] == [ClientClosed]


def test_a_client_may_be_made_before_the_loop_and_belongs_to_the_first(server: str, files: list[Path]) -> None:
    client = AsyncClient(server, MODEL_NAME)

    async def use() -> Classification:
        return await client.classify(files[0])

    async def use_and_close() -> None:
        with pytest.raises(UsageError, match="another event loop"):
            await client.classify(files[0])

    assert asyncio.run(use()).ok
    asyncio.run(use_and_close())


@pytest.mark.parametrize("calls", [1, 3])
def test_of_two_loops_that_make_the_first_call_at_once_one_is_told(front: Front, calls: int) -> None:
    front.open.clear()
    client = AsyncClient(front.address, MODEL_NAME)
    first_loop_waits = threading.Event()

    async def first() -> list[Any]:
        tasks = [asyncio.create_task(client.contract()) for _ in range(calls)]
        await asyncio.to_thread(front.hanging.wait)
        first_loop_waits.set()
        return await asyncio.gather(*tasks)

    async def second() -> list[Any]:
        return await asyncio.gather(*(client.contract() for _ in range(calls)), return_exceptions=True)

    with ThreadPoolExecutor(1) as threads:
        answers = threads.submit(asyncio.run, first())
        first_loop_waits.wait()
        errors = asyncio.run(asyncio.wait_for(second(), 10))
        front.open.set()
        assert len(answers.result()) == calls
    assert [type(error) for error in errors] == [UsageError] * calls
    assert "another event loop" in str(errors[0])


def test_any_loop_may_close_a_client(front: Front) -> None:
    front.open.clear()
    client = AsyncClient(front.address, MODEL_NAME)
    with ThreadPoolExecutor(1) as threads:
        answer = threads.submit(asyncio.run, client.contract())
        front.hanging.wait()
        asyncio.run(client.close())
        with pytest.raises(ClientClosed):
            answer.result(30)
    asyncio.run(client.close())


def test_a_process_forked_after_the_first_call_is_told_of_spawn(server: str, files: list[Path]) -> None:
    script = f"""
import asyncio, os, sys
import flow_images as fi

client = fi.AsyncClient({server!r}, {MODEL_NAME!r})
asyncio.run(client.classify({str(files[0])!r}))
for use in (
    lambda: fi.Client({server!r}, {MODEL_NAME!r}).contract(),
    lambda: asyncio.run(fi.AsyncClient({server!r}, {MODEL_NAME!r}).contract()),
    lambda: asyncio.run(client.classify(b"")),
):
    child = os.fork()
    if child == 0:
        try:
            print(use())
        except Exception as error:
            print(type(error).__name__, error)
        sys.stdout.flush()
        os._exit(0)
    os.waitpid(child, 0)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    told = done.stdout.splitlines()
    assert len(told) == 3
    for line in told:
        assert line.startswith("UsageError this process was forked")
        assert "`spawn`" in line


def test_a_client_made_before_a_fork_is_used_after_it(server: str, files: list[Path]) -> None:
    script = f"""
import asyncio, os
import flow_images as fi

waiting, blocking = fi.AsyncClient({server!r}, {MODEL_NAME!r}), fi.Client({server!r}, {MODEL_NAME!r})
blocking.contract()
if os.fork() == 0:
    print(asyncio.run(waiting.classify({str(files[0])!r})).ok, blocking.classify({str(files[0])!r}).ok, flush=True)
    os._exit(0)
os.wait()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "True True\n"


def test_tls_and_a_token(server: str, files: list[Path], tmp_path: Path) -> None:
    authority = Authority()
    key, certificate = authority.issue("server")
    credentials = grpc.ssl_server_credentials([(key.encode(), certificate.encode())])
    (tmp_path / "ca.pem").write_text(authority.certificate)
    tls = TlsOptions(ca=str(tmp_path / "ca.pem"))
    with Front(server, credentials=credentials) as front:
        front.token = "secret"
        assert ask(front.address, lambda client: client.classify(files[0]), tls=tls, token="secret").ok
        with Client(front.address, MODEL_NAME, tls=tls, token="secret") as client:
            assert client.classify(files[0]).ok
            assert "secret" not in repr(client)
        with pytest.raises(AccessDenied):
            ask(front.address, lambda client: client.classify(files[0]), tls=tls, token="wrong")
        with Client(front.address, MODEL_NAME, tls=True) as client, pytest.raises(AccessDenied, match="certificate"):
            client.classify(files[0])


def test_the_web_service_of_the_docs_answers(server: str, files: list[Path]) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "clients.md").read_text()
    [code] = [block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "Starlette" in block]
    names: dict[str, Any] = {}
    exec(code.replace('"localhost:8500", "dogs"', f'"{server}", "{MODEL_NAME}"'), names)
    with Client(server, MODEL_NAME) as client:
        label = client.classify(files[0]).label
    for _ in range(2):  # a process may start it more than once, as a service's own tests do
        with TestClient(names["app"]) as browser:
            good = browser.post("/classify", content=files[0].read_bytes())
            bad = browser.post("/classify", content=b"<html>")
        assert (good.status_code, good.json()["label"]) == (200, label)
        assert (bad.status_code, bad.json()["reason"]) == (422, "not_an_image")
