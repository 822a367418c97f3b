"""What a client says of an address where no server of models answers.

It says so at once where the address can't become right, and within seconds where the server is waited for.
"""

import concurrent.futures
import contextlib
import datetime
import http.server
import ipaddress
import logging
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from serving.client.client_options import Endpoint, TlsOptions
from serving.client.predict_client import PredictClient
from serving.errors import AccessDenied, DeadlineExceeded, ServerUnavailable, ServingError, WrongAddress
from serving.network.retry import RetryPolicy
from tests.conftest import free_port

Handle = Callable[[socket.socket], None]
PATIENT = RetryPolicy(patience_s=600)


class Listener:
    """Does one thing with each connection. A context manager; gives its port."""

    def __init__(self, handle: Handle) -> None:
        self._handle = handle
        self._socket = socket.create_server(("127.0.0.1", 0))

    def __enter__(self) -> int:
        threading.Thread(target=self._run, daemon=True).start()
        port: int = self._socket.getsockname()[1]
        return port

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._one, args=[connection], daemon=True).start()

    def _one(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            self._handle(connection)


def says(data: bytes) -> Handle:
    def handle(connection: socket.socket) -> None:
        connection.sendall(data)
        while connection.recv(4096):
            pass

    return handle


def says_nothing(connection: socket.socket) -> None:
    while connection.recv(4096):
        pass


def ask(port: int, retry: RetryPolicy = PATIENT, host: str = "127.0.0.1") -> None:
    with PredictClient(Endpoint(address=f"{host}:{port}", model_name="m"), retry=retry) as client:
        client.available_version()


async def _no_page(scope: object, receive: object, send: Callable[..., object]) -> None:
    await send({"type": "http.response.start", "status": 404, "headers": []})  # type: ignore[misc]
    await send({"type": "http.response.body", "body": b"{}"})  # type: ignore[misc]


@pytest.fixture
def rest() -> Iterator[int]:
    """Port of a web server as the embedded server's REST is one."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(_no_page, host="127.0.0.1", port=port, log_level="critical", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.01)
    yield port
    server.should_exit = True
    thread.join()


def test_a_rest_port_is_refused_at_once(rest: int) -> None:
    with pytest.raises(WrongAddress, match="looks like a REST port") as error:
        ask(rest)
    assert "8500" in str(error.value)
    assert error.value.exit_code == 2


@pytest.mark.parametrize(
    "greeting",
    [
        b"HTTP/1.1 400 Bad Request\r\nServer: nginx\r\nContent-Length: 0\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"220 mail ESMTP\r\n",
    ],
    ids=["web", "ssh", "mail"],
)
def test_what_speaks_no_grpc_is_refused_at_once(greeting: bytes) -> None:
    with Listener(says(greeting)) as port, pytest.raises(WrongAddress, match="does not speak gRPC"):
        ask(port)


def test_a_proxy_whose_server_is_away_is_waited_for() -> None:
    away = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
    with Listener(says(away)) as port, pytest.raises(ServerUnavailable):
        ask(port, RetryPolicy(patience_s=0))


def test_a_server_that_wants_tls_is_refused_at_once_and_the_flag_named(tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(_certificate(tmp_path))

    def handle(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secured:
            secured.recv(1)

    with Listener(handle) as port, pytest.raises(WrongAddress, match="add `tls`"):
        ask(port)


def _certificate(folder: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    file = folder / "both.pem"
    file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return file


def test_nobody_there_is_waited_for_and_said(caplog: pytest.LogCaptureFixture) -> None:
    port = free_port()
    policy = RetryPolicy(patience_s=2, first_delay_s=0.05, max_delay_s=0.1)
    with pytest.raises(ServerUnavailable, match=r"is the server running\?.*; tried for \d s"):
        ask(port, policy)
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert said == [
        f"waiting up to 2 s for 127.0.0.1:{port}: UNAVAILABLE: Connection refused (nothing listens there: is the "
        "server running? A lower `patience_s` gives up earlier)"
    ]


def test_a_server_on_a_socket_is_not_named_by_its_path(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    endpoint = Endpoint(address=f"unix:{tmp_path / 'none'}", model_name="dogs")
    policy = RetryPolicy(patience_s=1, first_delay_s=0.05, max_delay_s=0.1)
    with PredictClient(endpoint, retry=policy) as client, pytest.raises(ServerUnavailable):
        client.available_version()
    assert caplog.messages[0].startswith("waiting up to 1 s for the server of model ")


def test_a_name_that_is_nowhere_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ServerUnavailable, match="can't be resolved"):
        ask(8500, RetryPolicy(patience_s=1, first_delay_s=0.05, max_delay_s=0.1), "nowhere.invalid")
    assert "the name of nowhere.invalid:8500 can't be resolved" in caplog.text


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_a_handshake_that_hangs_is_said_before_the_deadline(caplog: pytest.LogCaptureFixture, tls: bool) -> None:
    with Listener(says_nothing) as port:
        endpoint = Endpoint(address=f"127.0.0.1:{port}", model_name="m", tls=TlsOptions() if tls else None)
        client = PredictClient(endpoint, retry=RetryPolicy(deadline_s=8, patience_s=0))
        with client, ThreadPoolExecutor(1) as thread:
            asked = thread.submit(client.available_version)
            while not asked.done() and not caplog.records:
                concurrent.futures.wait([asked], timeout=0.1)
            assert not asked.done()  # the word came while it was waited for
            with pytest.raises(DeadlineExceeded, match="after 8 s: no connection yet"):
                asked.result()
    assert f"waiting up to 8 s for 127.0.0.1:{port}: no connection yet" in caplog.text


@pytest.fixture
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("grpc_proxy", "https_proxy", "http_proxy", "no_grpc_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


class _Refusing(http.server.BaseHTTPRequestHandler):
    asked: list[str]

    def do_CONNECT(self) -> None:
        self.asked.append(self.path)
        self.send_error(403)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def proxy() -> Iterator[tuple[int, list[str]]]:
    """Port of a proxy that refuses, and what it was asked for."""
    _Refusing.asked = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1], _Refusing.asked
    server.shutdown()
    server.server_close()


@pytest.mark.usefixtures("no_proxies")
@pytest.mark.parametrize("variable", ["grpc_proxy", "https_proxy", "http_proxy"])
def test_a_proxy_is_named_without_its_password(
    monkeypatch: pytest.MonkeyPatch, proxy: tuple[int, list[str]], variable: str
) -> None:
    port, asked = proxy
    monkeypatch.setenv(variable, f"http://user:hunter2@127.0.0.1:{port}")
    with pytest.raises(AccessDenied) as error:
        ask(8500, host="serving.example")
    assert f"through the proxy http://127.0.0.1:{port} of the variable {variable}; no_proxy=HOST" in str(error.value)
    assert "hunter2" not in str(error.value)
    assert asked == ["serving.example:8500"]


@pytest.mark.usefixtures("no_proxies")
@pytest.mark.parametrize(
    ("address", "left_out"),
    [("127.0.0.1:1", ""), ("localhost:1", ""), ("127.0.0.1:1,127.0.0.2:1", ""), ("nowhere.invalid:1", ".invalid"),
     ("127.0.0.1:1", "127.0.0.0/8")],
)  # fmt: skip
def test_no_proxy_is_asked_for_this_machine_or_for_what_is_left_out(
    monkeypatch: pytest.MonkeyPatch, proxy: tuple[int, list[str]], address: str, left_out: str
) -> None:
    port, asked = proxy
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("no_proxy", left_out)
    with PredictClient(Endpoint(address=address, model_name="m"), retry=RetryPolicy(patience_s=0)) as client:
        with pytest.raises(ServingError) as error:
            client.available_version()
        assert isinstance(error.value, ServerUnavailable)
    assert "proxy" not in str(error.value)
    assert not asked
