"""What is in one of our images, as SPDX 2.3: its packages of Python and of Debian, their versions and licenses.

python sbom.py IMAGE < pyproject.toml > IMAGE.spdx.json, in the stage of the build that has installed the packages.
"""

import os
import platform
import re
import sys
import tomllib
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.parser import HeaderParser
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

from license_expression import ExpressionError, ExpressionParseError
from packageurl import PackageURL
from spdx_tools.common.spdx_licensing import spdx_licensing
from spdx_tools.spdx.model import (
    Actor,
    ActorType,
    CreationInfo,
    Document,
    ExternalPackageRef,
    ExternalPackageRefCategory,
    ExtractedLicensingInfo,
    Package,
    PackagePurpose,
    Relationship,
    RelationshipType,
    SpdxNoAssertion,
)
from spdx_tools.spdx.writer.json.json_writer import write_document_to_stream

# Trove classifiers that mean one license of SPDX. "BSD License" doesn't: there are several.
CLASSIFIERS = {
    "License :: OSI Approved :: Apache Software License": "Apache-2.0",
    "License :: OSI Approved :: ISC License (ISCL)": "ISC",
    "License :: OSI Approved :: MIT License": "MIT",
    "License :: OSI Approved :: Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
}


@dataclass(frozen=True)
class Found:
    """A package in an image."""

    purl: PackageURL
    license: str = ""
    """What the package declares: an expression of SPDX, or whatever text it has."""
    comment: str = ""

    @property
    def spdx_id(self) -> str:
        """Unique in a document; of letters, digits, points and hyphens."""
        words = (self.purl.type, self.purl.name, self.purl.version, (self.purl.qualifiers or {}).get("arch", ""))
        return "SPDXRef-" + re.sub(r"[^A-Za-z0-9.]+", "-", " ".join(map(str, words))).strip("-")


def python_packages(folders: Iterable[Path]) -> Iterator[Found]:
    """The distributions that are installed in these folders of an import path."""
    for distribution in distributions(path=[str(folder) for folder in folders]):
        name = re.sub(r"[-_.]+", "-", distribution.name).lower()
        yield Found(PackageURL("pypi", None, name, distribution.version), declared_license(distribution))


def declared_license(distribution: Distribution) -> str:
    """An expression of SPDX where the metadata has one or means one, else its text; empty where it says nothing."""
    metadata = distribution.metadata
    texts = [*(metadata.get_all("License-Expression") or []), *(metadata.get_all("License") or [])]
    classifiers = [line for line in metadata.get_all("Classifier") or [] if line.startswith("License :: ")]
    known = [text for text in texts if is_expression(text)] or [
        CLASSIFIERS[line] for line in classifiers if len(classifiers) == 1 and line in CLASSIFIERS
    ]
    return next(iter([*known, *filter(None, texts), "\n".join(classifiers)]))


def is_expression(text: str) -> bool:
    """Is it of licenses that SPDX lists?"""
    try:
        return spdx_licensing.parse(text, validate=True) is not None
    except (ExpressionError, ExpressionParseError):
        return False


def debian_packages(root: Path) -> Iterator[Found]:
    """The packages that dpkg has installed under this root; none where there is no dpkg."""
    status, release = root / "var/lib/dpkg/status", root / "etc/os-release"
    if not status.exists():
        return
    version = re.search(r'^VERSION_ID="?(\w+)', release.read_text(), re.MULTILINE) if release.exists() else None
    for paragraph in status.read_text(encoding="utf-8").strip().split("\n\n"):
        fields = HeaderParser().parsestr(paragraph)
        if fields["Status"] != "install ok installed":
            continue
        qualifiers = {"arch": fields["Architecture"]} | ({"distro": f"debian-{version[1]}"} if version else {})
        purl = PackageURL("deb", "debian", fields["Package"], fields["Version"], qualifiers)
        yield Found(purl, comment=f"License: /usr/share/doc/{fields['Package']}/copyright, in the image")


def packages(root: Path) -> list[Found]:
    """All packages of an image whose files are here, each once."""
    found = [*python_packages(root.glob("opt/venv/lib/python3*/site-packages")), *debian_packages(root)]
    # Python's own images build it in /usr/local, of which dpkg knows nothing.
    if (root / "usr/local/bin/python3").exists():
        found.append(Found(PackageURL("generic", None, "python", platform.python_version()), "Python-2.0.1"))
        found += python_packages(root.glob("usr/local/lib/python3*/site-packages"))
    return sorted({package.spdx_id: package for package in found}.values(), key=lambda package: package.spdx_id)


@dataclass
class Licenses:
    """What SPDX calls the licenses of packages; texts that are no expression are kept as they are."""

    extracted: dict[str, ExtractedLicensingInfo] = field(default_factory=dict)

    def of(self, package: Found) -> Any:
        """The license of a package, as an expression."""
        if not package.license:
            return SpdxNoAssertion()
        if is_expression(package.license):
            return spdx_licensing.parse(package.license)
        name = "LicenseRef-" + package.spdx_id.removeprefix("SPDXRef-")
        self.extracted[name] = ExtractedLicensingInfo(license_id=name, extracted_text=package.license)
        return spdx_licensing.parse(name)


def document(image: str, project: dict[str, Any], found: Iterable[Found], created: datetime) -> Document:
    """The SPDX document of an image.

    Args:
      image: its name without registry and tag, such as `trainer`.
      project: the table `project` of pyproject.toml.
      found: its packages.
      created: when it was made; the same input at the same time gives the same document.
    """
    own = Found(PackageURL("pypi", None, project["name"], project["version"]), project["license"])
    found, licenses, root = [own, *found], Licenses(), "SPDXRef-image"
    whole = Package(
        spdx_id=root,
        name=f"{project['name']}/{image}",
        version=project["version"],
        download_location=SpdxNoAssertion(),
        files_analyzed=False,
        license_declared=spdx_licensing.parse(project["license"]),
        primary_package_purpose=PackagePurpose.CONTAINER,
    )
    parts = [
        Package(
            spdx_id=package.spdx_id,
            name=package.purl.name,
            version=package.purl.version,
            download_location=SpdxNoAssertion(),
            files_analyzed=False,
            license_declared=licenses.of(package),
            comment=package.comment or None,
            external_references=[
                ExternalPackageRef(ExternalPackageRefCategory.PACKAGE_MANAGER, "purl", package.purl.to_string())
            ],
        )
        for package in found
    ]
    content = uuid.uuid5(uuid.NAMESPACE_URL, "\n".join(str(package) for package in [image, created, *found]))
    return Document(
        CreationInfo(
            spdx_version="SPDX-2.3",
            spdx_id="SPDXRef-DOCUMENT",
            name=f"{project['name']}-{image}-{project['version']}",
            document_namespace=f"https://spdx.org/spdxdocs/{project['name']}-{image}-{content}",
            creators=[Actor(ActorType.TOOL, f"{project['name']}-{project['version']}")],
            created=created,
        ),
        packages=[whole, *parts],
        extracted_licensing_info=list(licenses.extracted.values()),
        relationships=[
            Relationship("SPDXRef-DOCUMENT", RelationshipType.DESCRIBES, root),
            *(Relationship(root, RelationshipType.CONTAINS, part.spdx_id) for part in parts),
        ],
    )


if __name__ == "__main__":
    described = tomllib.load(sys.stdin.buffer)["project"]
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    made = datetime.fromtimestamp(int(epoch), UTC) if epoch else datetime.now(UTC).replace(microsecond=0)
    # It is held against the specification before it is written.
    write_document_to_stream(document(sys.argv[1], described, packages(Path("/")), made), sys.stdout)
