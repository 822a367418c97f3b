"""The document is held against SPDX's specification by the SPDX project's own library."""

import io
import json
import subprocess
import sys
import tomllib
from datetime import datetime
from email.message import Message
from importlib.metadata import Distribution, version
from pathlib import Path
from typing import Any

import pytest
from packageurl import PackageURL
from spdx_tools.spdx.model import Document
from spdx_tools.spdx.parser.parse_anything import parse_file
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document
from spdx_tools.spdx.writer.json.json_writer import write_document_to_stream

from k8s.images.sbom import Found, declared_license, document, packages, python_packages
from tests.k8s.images.test_checkout import ROOT

CREATED = datetime(2026, 1, 2, 3, 4, 5)
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
STATUS = """\
Package: libstdc++6
Status: install ok installed
Architecture: amd64
Multi-Arch: same
Version: 12.2.0-14+deb12u1
Description: GNU Standard C++ Library v3
 Several lines,
 .
 and a point.

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1

Package: tzdata
Status: install ok installed
Architecture: all
Version: 2026a-0+deb12u1
"""


def metadata(folder: Path, name: str, number: str, *lines: str) -> None:
    """An installed distribution."""
    info = folder / f"{name.replace('-', '_')}-{number}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("\n".join(["Metadata-Version: 2.4", f"Name: {name}", f"Version: {number}", *lines]))


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """The files of an image that say what is in it: Python's own base, and a few packages."""
    root = tmp_path / "image"
    venv, base = (root / folder / "lib/python3.11/site-packages" for folder in ("opt/venv", "usr/local"))
    metadata(venv, "Jinja2", "3.1.6", "Classifier: License :: OSI Approved :: BSD License")
    metadata(
        venv,
        "google-auth",
        "2.1",
        "License: Apache 2.0",
        "Classifier: License :: OSI Approved :: Apache Software License",
    )
    metadata(venv, "numpy", "2.0", "License-Expression: BSD-3-Clause AND 0BSD")
    metadata(venv, "silent", "1.0+local")
    metadata(base, "pip", "24.0", "License: MIT")
    (root / "usr/local/bin").mkdir(parents=True)
    (root / "usr/local/bin/python3").touch()
    (root / "var/lib/dpkg").mkdir(parents=True)
    (root / "var/lib/dpkg/status").write_text(STATUS)
    (root / "etc").mkdir()
    (root / "etc/os-release").write_text('PRETTY_NAME="Debian"\nVERSION_ID="12"\n')
    return root


def described(root: Path, folder: Path) -> tuple[dict[str, Any], Document]:
    """The document of an image, as JSON and as the library reads it."""
    path = folder / "sbom.spdx.json"
    with path.open("w") as file:
        write_document_to_stream(document("predict", PROJECT, packages(root), CREATED), file, validate=False)
    return json.loads(path.read_text()), parse_file(str(path))


def test_the_specification_is_kept(image: Path, tmp_path: Path) -> None:
    written, read = described(image, tmp_path)
    assert validate_full_spdx_document(read, "SPDX-2.3") == []
    assert written["spdxVersion"] == "SPDX-2.3"
    assert written["creationInfo"]["created"] == "2026-01-02T03:04:05Z"


def test_each_package_has_version_license_and_purl(image: Path, tmp_path: Path) -> None:
    written, _ = described(image, tmp_path)
    whole, *parts = written["packages"]
    assert (whole["name"], whole["primaryPackagePurpose"]) == ("flow-images/predict", "CONTAINER")
    python = ".".join(map(str, sys.version_info[:3]))
    assert {part["externalRefs"][0]["referenceLocator"]: part.get("licenseDeclared") for part in parts} == {
        f"pkg:pypi/flow-images@{PROJECT['version']}": "Apache-2.0",
        "pkg:pypi/jinja2@3.1.6": "LicenseRef-pypi-jinja2-3.1.6",
        "pkg:pypi/google-auth@2.1": "Apache-2.0",
        "pkg:pypi/numpy@2.0": "BSD-3-Clause AND 0BSD",
        "pkg:pypi/silent@1.0%2Blocal": "NOASSERTION",
        "pkg:pypi/pip@24.0": "MIT",
        f"pkg:generic/python@{python}": "Python-2.0.1",
        "pkg:deb/debian/libstdc%2B%2B6@12.2.0-14%2Bdeb12u1?arch=amd64&distro=debian-12": "NOASSERTION",
        "pkg:deb/debian/tzdata@2026a-0%2Bdeb12u1?arch=all&distro=debian-12": "NOASSERTION",
    }
    assert written["hasExtractedLicensingInfos"] == [
        {"licenseId": "LicenseRef-pypi-jinja2-3.1.6", "extractedText": "License :: OSI Approved :: BSD License"}
    ]
    contained = {one["relatedSpdxElement"] for one in written["relationships"] if one["relationshipType"] == "CONTAINS"}
    assert contained == {part["SPDXID"] for part in parts}


def test_the_same_image_has_the_same_document(image: Path, tmp_path: Path) -> None:
    first, _ = described(image, tmp_path)
    assert described(image, tmp_path)[0] == first
    metadata(image / "opt/venv/lib/python3.11/site-packages", "more", "1")
    assert described(image, tmp_path)[0]["documentNamespace"] != first["documentNamespace"]


def test_debians_python_is_listed_once(image: Path) -> None:
    """As one of Debian's packages: there is none in /usr/local."""
    (image / "usr/local/bin/python3").unlink()
    assert not [found for found in packages(image) if found.purl.type == "generic" or found.purl.name == "pip"]


def test_what_this_python_has_installed(tmp_path: Path) -> None:
    """Hundreds of real packages, whose licenses are declared in every way that there is."""
    found = list(python_packages([Path(path) for path in sys.path if path.endswith("site-packages")]))
    assert {"numpy": version("numpy"), "apache-beam": version("apache-beam")}.items() <= {
        one.purl.name: one.purl.version for one in found
    }.items()
    others = {one.spdx_id: one for one in found if one.purl.name != "flow-images"}
    written = io.StringIO()
    write_document_to_stream(document("trainer", PROJECT, others.values(), CREATED), written, validate=True)
    assert len(json.loads(written.getvalue())["packages"]) > 100


class Described(Distribution):
    def __init__(self, *headers: tuple[str, str]) -> None:
        self.message = Message()
        for key, value in headers:
            self.message[key] = value

    @property
    def metadata(self) -> Any:
        return self.message

    def read_text(self, filename: str) -> None: ...

    def locate_file(self, path: Any) -> Any: ...


MIT, BSD, APACHE = (f"License :: OSI Approved :: {name} License" for name in ("MIT", "BSD", "Apache Software"))


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([("License-Expression", "MIT OR Apache-2.0"), ("License", "see LICENSE")], "MIT OR Apache-2.0"),
        ([("License", "BSD-3-Clause")], "BSD-3-Clause"),
        ([("License", "MIT License"), ("Classifier", MIT)], "MIT"),
        ([("License", "Dual License"), ("Classifier", BSD), ("Classifier", APACHE)], "Dual License"),
        ([("License", "Apache License, Version 2.0")], "Apache License, Version 2.0"),
        ([("License", "(broken AND")], "(broken AND"),
        ([("Classifier", BSD), ("Classifier", APACHE)], f"{BSD}\n{APACHE}"),
        ([("Classifier", "Programming Language :: Python")], ""),
    ],
)
def test_a_license_is_taken_as_it_is_declared(headers: list[tuple[str, str]], expected: str) -> None:
    assert declared_license(Described(*headers)) == expected


def test_an_id_has_only_what_spdx_allows() -> None:
    assert Found(PackageURL("deb", "debian", "g++", "1:2~x", {"arch": "arm64"})).spdx_id == "SPDXRef-deb-g-1-2-x-arm64"


def test_the_program_writes_it(tmp_path: Path) -> None:
    environment = {"SOURCE_DATE_EPOCH": "1767323045", "PATH": "/usr/bin"}
    with (ROOT / "pyproject.toml").open() as project, (tmp_path / "out.spdx.json").open("w") as out:
        command = [sys.executable, str(ROOT / "k8s/images/sbom.py"), "server"]
        subprocess.run(command, stdin=project, stdout=out, check=True, env=environment)
    read = parse_file(str(tmp_path / "out.spdx.json"))
    assert validate_full_spdx_document(read) == []
    assert read.creation_info.created == datetime(2026, 1, 2, 3, 4, 5)
