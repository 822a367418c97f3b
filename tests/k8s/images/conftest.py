"""A checkout whose images are tiny, a real registry on loopback, and buildah with a storage of its own."""

import json
import os
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from k8s.images.checkout import CONTEXT
from k8s.images.engine import CONTAINERFILE, Buildah
from tests.conftest import free_port, wait_for_port
from tests.k8s.builds import CACHE

BASE_DIGEST = "sha256:" + "0" * 64
STAGES = "".join(
    f'FROM scratch AS {stage}\nLABEL org.opencontainers.image.title="{stage}"\nARG EXTRAS\nCOPY README.md /\n'
    "COPY k8s/sbom.spdx.json /usr/share/sbom/flow-images.spdx.json\n"
    'CMD ["/none"]\n'
    for stage in ("build-server", "trainer", "predict", "server")
)


def run_git(folder: Path, *words: str) -> str:
    who = {"GIT_AUTHOR_NAME": "A", "GIT_AUTHOR_EMAIL": "a@example.com"}
    who |= {name.replace("AUTHOR", "COMMITTER"): value for name, value in who.items()}
    when = {"GIT_AUTHOR_DATE": "2026-01-02T03:04:05Z", "GIT_COMMITTER_DATE": "2026-01-02T03:04:05Z"}
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    done = subprocess.run(
        ["git", *words], cwd=folder, capture_output=True, text=True, check=True, env=clean | who | when
    )
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With one commit, tagged v1.2.0."""
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    root = tmp_path / "checkout"
    for name in CONTEXT:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        if "." in name or name == "LICENSE":
            (root / name).write_text(f"{name}\n")
        else:
            (root / name).mkdir()
            (root / name / "module.py").write_text("")
    (root / "pyproject.toml").write_text(
        '[project]\nname = "flow-images"\nversion = "1.2.0"\n[project.optional-dependencies]\ngcs = []\ns3 = []\n'
    )
    (root / "k8s/sbom.spdx.json").write_text("{}")
    (root / CONTAINERFILE).parent.mkdir(parents=True)
    (root / CONTAINERFILE).write_text(f"ARG BASE=docker.io/library/python:3.11@{BASE_DIGEST}\n{STAGES}")
    (root / ".gitignore").write_text("*.secret\n/dist/\n")
    run_git(root, "init", "--quiet")
    run_git(root, "add", ".")
    run_git(root, "commit", "--quiet", "--message", "All of it")
    run_git(root, "tag", "--annotate", "v1.2.0", "--message", "v1.2.0")
    return root


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What buildah and podman build is gone afterwards."""
    (tmp_path / "storage.conf").write_text(
        f'[storage]\ndriver = "vfs"\ngraphroot = "{tmp_path}/storage"\nrunroot = "{tmp_path}/storage-run"\n'
    )
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(tmp_path / "storage.conf"))


@pytest.fixture
def buildah(storage: None) -> Buildah:
    """It works here."""
    engine = Buildah()
    if obstacle := engine.obstacle():
        pytest.skip(f"buildah {obstacle}: tests/k8s/cluster/build.sh node")
    return engine


class Registry:
    """One that keeps what is pushed in memory."""

    def __init__(self, port: int) -> None:
        self.address = f"localhost:{port}"

    def get(self, path: str) -> bytes:
        accepted = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"
        request = urllib.request.Request(f"http://{self.address}/v2/{path}", headers={"Accept": accepted})
        with urllib.request.urlopen(request) as answer:
            return bytes(answer.read())

    def labels(self, repository: str, digest: str) -> dict[str, str]:
        """What an image's configuration says."""
        manifest = json.loads(self.get(f"{repository}/manifests/{digest}"))
        config: dict[str, Any] = json.loads(self.get(f"{repository}/blobs/{manifest['config']['digest']}"))
        return dict(config["config"]["Labels"])


def without_tls(address: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tells buildah and podman that this registry speaks none."""
    (folder / "registries.conf").write_text(f'[[registry]]\nlocation = "{address}"\ninsecure = true\n')
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(folder / "registries.conf"))


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """It holds nothing at first."""
    program = shutil.which("registry", path=f"{CACHE / 'bin'}:{os.environ['PATH']}")
    if not program:
        pytest.skip("no registry is built: tests/k8s/cluster/build.sh node")
    running = Registry(free_port())
    without_tls(running.address, tmp_path, monkeypatch)
    with open(tmp_path / "registry.log", "wb") as log:
        process = subprocess.Popen([program, "-port", running.address.split(":")[1]], stdout=log, stderr=log)
    try:
        wait_for_port(int(running.address.split(":")[1]))
        yield running
    finally:
        process.kill()
        process.wait()
