"""The gRPC port: TLS and mutual TLS, and the reflection by which tools find the services and their messages."""

import datetime
import ipaddress
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from serving.server.rpc.status_error import StatusError
from tests.serving.server.client import Client
from tests.serving.server.conftest import Serve


class Authority:
    """A certificate authority for one test run."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        self.certificate = self._sign(self._name, self._key.public_key(), authority=True)

    def _sign(self, subject: x509.Name, key: ec.EllipticCurvePublicKey, *, authority: bool) -> str:
        now = datetime.datetime.now(datetime.UTC)
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(names, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.PEM).decode()

    def issue(self, name: str) -> tuple[str, str]:
        """A key and its certificate."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return pem.decode(), self._sign(subject, key.public_key(), authority=False)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


def ssl_config(tmp_path: Path, authority: Authority, *, verify: bool) -> str:
    key, certificate = authority.issue("server")
    quoted = {
        name: pem.replace("\n", "\\n")
        for name, pem in {"server_key": key, "server_cert": certificate, "custom_ca": authority.certificate}.items()
    }
    lines = [f'{name}: "{pem}"' for name, pem in quoted.items()] + [f"client_verify: {str(verify).lower()}"]
    file = tmp_path / "ssl.config"
    file.write_text("\n".join(lines))
    return str(file)


def test_tls(written: Path, tmp_path: Path, authority: Authority, serve: Serve) -> None:
    client = serve(written / "m", ssl_config_file=ssl_config(tmp_path, authority, verify=False))
    trusting = grpc.ssl_channel_credentials(authority.certificate.encode())
    assert Client(client.address, credentials=trusting).status() == [(3, "AVAILABLE")]
    with pytest.raises(grpc.RpcError):
        client.status()  # in plain text


def test_mutual_tls(written: Path, tmp_path: Path, authority: Authority, serve: Serve) -> None:
    client = serve(written / "m", ssl_config_file=ssl_config(tmp_path, authority, verify=True))
    root = authority.certificate.encode()
    key, certificate = authority.issue("client")
    known = grpc.ssl_channel_credentials(root, key.encode(), certificate.encode())
    assert Client(client.address, credentials=known).status() == [(3, "AVAILABLE")]
    with pytest.raises(grpc.RpcError):
        Client(client.address, credentials=grpc.ssl_channel_credentials(root)).status()


def test_alts_is_refused(written: Path, serve: Serve) -> None:
    with pytest.raises(StatusError, match="ALTS"):
        serve(written / "m", use_alts_credentials=True)


ASK = """
import sys, grpc
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
database = ProtoReflectionDescriptorDatabase(grpc.insecure_channel(sys.argv[1]))
pool = DescriptorPool(database)
for name in ("PredictionService", "ModelService"):
    print(*[method.name for method in pool.FindServiceByName(f"tensorflow.serving.{name}").methods])
"""


def test_the_services_are_described(serve: Serve, written: Path) -> None:
    client = serve(written / "m")
    # In a process of its own, which knows none of the messages.
    asked = subprocess.run([sys.executable, "-c", ASK, client.address], capture_output=True, text=True, check=True)
    assert asked.stdout.splitlines() == [
        "Classify Regress Predict MultiInference GetModelMetadata",
        "GetModelStatus HandleReloadConfigRequest",
    ]
