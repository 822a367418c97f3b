"""TLS, mTLS and tokens, by flags and environment: what is right works, what is wrong ends at once and says why."""

import datetime
import ipaddress
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.faults.conftest import START
from tests.faults.front import Front
from tests.faults.jobs import assert_same

pytestmark = pytest.mark.faults
SECRET = "s3cr3t-t0ken"


class Files(NamedTuple):
    """PEM files of a certificate and its key."""

    cert: Path
    key: Path


@pytest.fixture(scope="module")
def issue(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Files]:
    """Certificates of one authority, whose own is `issue("authority")`."""
    folder = tmp_path_factory.mktemp("certificates")
    issuer_name, issuer_key = _name("authority"), ec.generate_private_key(ec.SECP256R1())

    def make(subject: str, *, days_left: int = 1) -> Files:
        own = subject == "authority"
        key = issuer_key if own else ec.generate_private_key(ec.SECP256R1())
        end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days_left)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(_name(subject))
            .issuer_name(issuer_name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(end - datetime.timedelta(days=3))
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(own, None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
            .sign(issuer_key, hashes.SHA256())
        )
        files = Files(folder / f"{subject}.pem", folder / f"{subject}.key")
        files.cert.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        files.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return files

    return make


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def secured(server: str, files: Files, clients_of: Files | None = None) -> Front:
    """A front that speaks TLS, and asks clients for a certificate if it is told whose."""
    pair = (files.key.read_bytes(), files.cert.read_bytes())
    roots = clients_of.cert.read_bytes() if clients_of else None
    return Front(server, credentials=grpc.ssl_server_credentials([pair], roots, clients_of is not None))


def test_mutual_tls_and_a_token(
    start: START, server: str, issue: Callable[..., Files], undisturbed: Path, tmp_path: Path
) -> None:
    authority, client = issue("authority"), issue("client")
    with secured(server, issue("server"), clients_of=authority) as front:
        front.token = SECRET
        keys = ("--tls-ca", authority.cert, "--tls-cert", client.cert, "--tls-key", client.key)
        wrong = start(front.address, *keys, FLOW_IMAGES_TOKEN="another")
        assert wrong.wait() == 1
        assert "UNAUTHENTICATED" in wrong.said
        job = start(front.address, *keys, FLOW_IMAGES_TOKEN=SECRET)
        assert job.wait() == 0, job.said
        without = start(front.address, "--tls-ca", authority.cert, "--patience", 1, output=tmp_path / "no")
        assert without.wait() == 75  # not to be told from a server that restarts
        assert "--tls-cert" in without.said
    assert_same(tmp_path / "out", undisturbed)
    for path in (tmp_path / "out").rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes()
    assert SECRET not in job.said + wrong.said


@pytest.mark.parametrize(
    ("days_left", "own_authority", "says"),
    [(-1, True, "certificate has expired"), (1, False, "unable to get local issuer")],
    ids=["expired", "unknown-issuer"],
)
def test_a_certificate_that_is_refused_ends_the_run_at_once(
    start: START, server: str, issue: Callable[..., Files], days_left: int, own_authority: bool, says: str
) -> None:
    authority = issue("authority")
    files = issue("server", days_left=days_left)
    with secured(server, files) as front:
        job = start(front.address, "--tls-ca", authority.cert if own_authority else issue("stranger").cert)
        assert job.wait(60) == 1
    assert says in job.said
    assert "the server's certificate is refused" in job.said
    assert "Traceback" not in job.said


def test_tls_to_a_server_without_it_ends_at_once(start: START, server: str) -> None:
    job = start(server, "--tls")
    assert job.wait(60) == 1
    assert "leave out --tls" in job.said


def test_a_flag_of_the_environment_is_named_so_when_the_server_refuses_it(start: START, server: str) -> None:
    job = start(server, FLOW_IMAGES_TLS="1")
    assert job.wait(60) == 1
    assert "set by FLOW_IMAGES_TLS in the environment" in job.said


def test_a_token_is_never_sent_in_the_clear(start: START, front: Front) -> None:
    job = start(front.address, FLOW_IMAGES_TOKEN=SECRET)
    assert job.wait() == 2
    assert front.asked == 0
    assert "only sent over TLS" in job.said
    assert SECRET not in job.said
