"""Files on a web server, which is a real one that misbehaves on request."""

import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from serving.errors import FileError, StorageDenied, StorageUnavailable, UsageError
from serving.network.retry import Retrier, RetryPolicy
from serving.storage.base import Storage
from serving.storage.http import Http, check_url
from serving.storage.local_file import TooLarge
from serving.storage.retrying_store import RetryingStorage
from serving.storage.stores import Stores, open_store
from tests.web_server import BODY, Web


@pytest.fixture
def web() -> Iterator[Web]:
    with Web() as server:
        yield server


@pytest.fixture
def store() -> Storage:
    return Http(wait_s=1.0)


@pytest.mark.parametrize("name", ["plain", "ranges", "unsized", "chunked", "moved"])
def test_a_file_is_read_whole_and_in_part(web: Web, store: Storage, name: str) -> None:
    url = f"{web.url}/{name}.jpg"
    assert store.read(url) == BODY
    assert store.read(url, limit=len(BODY)) == BODY
    assert store.read_range(url, 300, 310) == BODY[300:310]
    assert store.exists(url)


def test_a_stamp_is_the_size_and_what_else_the_server_tells(web: Web, store: Storage) -> None:
    for name in ("plain", "ranges", "stamped"):
        fetched = store.fetch(f"{web.url}/{name}.jpg").stamp
        assert fetched["size"] == str(len(BODY))
        assert store.stamp(f"{web.url}/{name}.jpg") == fetched
    assert fetched["etag"] == '"1"'
    assert store.stamp(f"{web.url}/unsized.jpg") == {}


def test_another_part_than_asked_for_is_not_taken_for_it(web: Web, store: Storage) -> None:
    with pytest.raises(FileError, match="bytes 0-"):
        store.read_range(f"{web.url}/elsewhere.jpg", 300, 310)


@pytest.mark.parametrize("name", ["plain", "unsized", "chunked", "endless"])
def test_a_file_over_the_limit_is_not_received(web: Web, store: Storage, name: str) -> None:
    with pytest.raises(TooLarge):
        store.read(f"{web.url}/{name}.jpg", limit=len(BODY) - 1)


def test_a_file_without_bytes(web: Web, store: Storage) -> None:
    assert store.read(f"{web.url}/empty.jpg", limit=10) == b""
    assert store.read_range(f"{web.url}/empty.jpg", 0, 10) == b""
    assert store.exists(f"{web.url}/empty.jpg")


@pytest.mark.parametrize("name", ["cut", "cutchunk"])
def test_an_answer_that_is_cut_off_is_no_shorter_file(web: Web, store: Storage, name: str) -> None:
    with pytest.raises(StorageUnavailable):
        store.read(f"{web.url}/{name}.jpg", limit=10**6)


def test_an_answer_that_is_cut_off_is_asked_for_again(web: Web) -> None:
    patient = RetryingStorage(Http(wait_s=1.0), Retrier(RetryPolicy(first_delay_s=1e-4)))
    assert patient.read(f"{web.url}/cutonce.jpg") == BODY
    assert len(web.asked) == 2


def test_a_server_that_asks_to_be_left_alone_is_so(web: Web) -> None:
    patient = RetryingStorage(Http(wait_s=1.0), Retrier(RetryPolicy(first_delay_s=1e-4)))
    started = time.monotonic()
    assert patient.read(f"{web.url}/busyonce.jpg") == BODY
    assert time.monotonic() - started >= 1.0
    impatient = patient.within(lambda: 0.9)
    web.asked.clear()
    started = time.monotonic()
    with pytest.raises(StorageUnavailable):
        impatient.read(f"{web.url}/busyonce.jpg")
    assert time.monotonic() - started < 0.9  # the next try would come too late
    assert len(web.asked) == 1


@pytest.mark.parametrize("name", ["dripping", "silent"])
def test_a_server_that_hangs_is_given_up(web: Web, store: Storage, name: str) -> None:
    with pytest.raises(StorageUnavailable):
        store.read(f"{web.url}/{name}.jpg?sig=secret")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (404, FileNotFoundError),
        (410, FileNotFoundError),
        (401, PermissionError),
        (403, PermissionError),
        (408, StorageUnavailable),
        (429, StorageUnavailable),
        (500, StorageUnavailable),
        (503, StorageUnavailable),
        (400, FileError),
        (418, FileError),
    ],
)
def test_a_status_is_an_error_that_says_whose_fault_it_is(
    web: Web, store: Storage, status: int, kind: type[Exception]
) -> None:
    with pytest.raises(kind, match=f"HTTP {status}") as error:
        store.read(f"{web.url}/{status}?sig=secret")
    assert type(error.value) is kind
    assert "secret" not in str(error.value)
    assert f"{web.url}/{status}?…" in str(error.value)


def test_what_leads_in_circles_is_given_up_at_once(web: Web, store: Storage) -> None:
    with pytest.raises(FileError, match="too many redirects"):
        store.read(f"{web.url}/round.jpg?sig=secret")


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/x?sig=secret", "http://no-such-host.invalid/x?sig=secret"])
def test_a_server_that_is_not_there_is_told_of_without_the_query(store: Storage, url: str) -> None:
    with pytest.raises(StorageUnavailable) as error:
        store.read(url)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("url", ["http://", "http:///x", "http://[::1/x", "http://h:99999/x", "http://a b/x"])
def test_a_url_that_no_server_can_have_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="is not a URL"):
        check_url(url)


def test_what_leads_to_another_scheme_is_not_followed(web: Web, store: Storage) -> None:
    with pytest.raises(FileError, match="it leads to an address that is not a URL of http:// or https://"):
        store.read(f"{web.url}/to_a_disk.jpg")


def test_a_name_is_sent_as_it_is_written_but_for_what_no_url_holds(web: Web, store: Storage) -> None:
    store.read(f"{web.url}/a b/犬/a%2Fb/[1]*/plain.jpg?sig=a%2Fb+c/d==#part")
    assert web.asked == ["/a%20b/%E7%8A%AC/a%2Fb/%5B1%5D*/plain.jpg?sig=a%2Fb+c/d=="]


def test_a_user_and_password_are_sent_as_a_header_and_not_shown(web: Web, store: Storage) -> None:
    assert store.read(web.url.replace("//", "//me:pass@") + "/guarded.jpg") == b"Basic bWU6cGFzcw=="
    with pytest.raises(FileNotFoundError) as error:
        store.read(web.url.replace("//", "//me:pass@") + "/none.jpg")
    assert "pass" not in str(error.value)


def test_connections_are_kept(web: Web, store: Storage) -> None:
    for _ in range(5):
        store.read(f"{web.url}/plain.jpg", limit=10**6)
    assert web.connections == 1


def test_a_certificate_that_nobody_vouches_for_is_refused(web: Web, store: Storage, tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(self_signed(tmp_path))
    web.socket = context.wrap_socket(web.socket, server_side=True)
    with pytest.raises(StorageDenied, match="CERTIFICATE_VERIFY_FAILED"):
        store.read(f"https://127.0.0.1:{web.server_port}/plain.jpg")


def test_what_speaks_no_tls_is_refused(web: Web, store: Storage) -> None:
    with pytest.raises(StorageDenied):
        store.read(f"https://127.0.0.1:{web.server_port}/plain.jpg")


WRITES: list[Any] = [
    pytest.param(lambda store, url: store.create(url, b"x"), id="create"),
    pytest.param(lambda store, url: store.replacing(url), id="replacing"),
    pytest.param(lambda store, url: store.delete(url), id="delete"),
    pytest.param(lambda store, url: store.walk(url), id="walk"),
    pytest.param(lambda _, url: Stores().writable(url), id="writable"),
]


@pytest.mark.parametrize("call", WRITES)
def test_a_web_server_is_only_read_from(call: Callable[[Storage, str], object]) -> None:
    with pytest.raises(UsageError, match="a web server") as error:
        call(open_store("https://host"), "https://host/x?sig=secret")
    assert "secret" not in str(error.value)


def self_signed(folder: Path) -> Path:
    """A certificate and its key, which its owner signed."""
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    file = folder / "server.pem"
    file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return file
