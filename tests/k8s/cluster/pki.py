"""Certificates and kubeconfigs of a throw-away cluster."""

import base64
import datetime
import ipaddress
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_VALID = datetime.timedelta(days=2)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        # The API server reads keys of service account tokens in this form only.
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )


def _name(common_name: str, organization: str = "") -> x509.Name:
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    if organization:
        parts.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
    return x509.Name(parts)


class Authority:
    """Signs every certificate of one cluster, into one folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._start = datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=5)
        self._name = _name("test-ca")
        builder = self._builder(self._name, self._key).add_extension(x509.BasicConstraints(True, None), critical=True)
        self.certificate = self._write("ca", self._key, builder)
        # Service account tokens are signed with a key of their own.
        self.tokens = self._save("tokens.key", _pem(ec.generate_private_key(ec.SECP256R1())))

    def issue(self, name: str, common_name: str, organization: str = "", hosts: tuple[str, ...] = ()) -> Path:
        """Writes NAME.crt and NAME.key for a client and, with hosts, for a server; gives the certificate's path."""
        key = ec.generate_private_key(ec.SECP256R1())
        usage = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
        builder = self._builder(_name(common_name, organization), key).add_extension(
            x509.ExtendedKeyUsage(usage), critical=False
        )
        if hosts:
            names = x509.SubjectAlternativeName([_host(host) for host in hosts])
            builder = builder.add_extension(names, critical=False)
        return self._write(name, key, builder)

    def kubeconfig(self, name: str, server: str) -> Path:
        """Writes NAME.conf for whoever was issued NAME."""

        def data(path: Path) -> str:
            return base64.b64encode(path.read_bytes()).decode()

        files = {suffix: self.folder / f"{name}.{suffix}" for suffix in ("crt", "key")}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [
                {"name": "test", "cluster": {"server": server, "certificate-authority-data": data(self.certificate)}}
            ],
            "users": [
                {
                    "name": name,
                    "user": {
                        "client-certificate-data": data(files["crt"]),
                        "client-key-data": data(files["key"]),
                    },
                }
            ],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": name}}],
        }
        return self._save(f"{name}.conf", yaml.safe_dump(config).encode())

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self._start)
            .not_valid_after(self._start + _VALID)
        )

    def _write(self, name: str, key: ec.EllipticCurvePrivateKey, builder: x509.CertificateBuilder) -> Path:
        self._save(f"{name}.key", _pem(key))
        signed = builder.sign(self._key, hashes.SHA256())
        return self._save(f"{name}.crt", signed.public_bytes(serialization.Encoding.PEM))

    def _save(self, name: str, content: bytes) -> Path:
        path = self.folder / name
        path.touch(mode=0o600)
        path.write_bytes(content)
        return path


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
