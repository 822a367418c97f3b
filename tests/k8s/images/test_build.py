"""The command as a whole, on a checkout whose images are tiny, with buildah and a registry that are real."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from k8s.images.build import IMAGES, Wanted, main
from k8s.images.engine import CONTAINERFILE
from tests.k8s.builds import K8S, build, kubectl
from tests.k8s.images.conftest import BASE_DIGEST, Registry, run_git
from tests.k8s.images.test_checkout import ROOT


def refused(checkout: Path, capfd: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The line that a command ends with which does nothing."""
    assert main(arguments, checkout) == 2
    printed = capfd.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    return line


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--push"], "PUSH=1 needs a registry, such as REGISTRY=registry.example/team."),
        (["--registry", "https://registry.example/team"], "It is a host and a path in small letters, such as"),
        (["--registry", "registry.example/Team"], "REGISTRY=registry.example/Team can't begin an image's name."),
        (["--registry", "registry.example/team:1.0"], "can't begin an image's name."),
        (["--tag", "1.0+local"], "TAG=1.0+local can't be a tag"),
        (["--extras", "gcs,s4"], "EXTRAS=gcs,s4: there is no extra 's4'; for buckets: gcs, s3, azure."),
        (["servers"], "There is no image 'servers'. There are trainer, predict, server."),
    ],
)
def test_a_wrong_option_is_one_line(
    checkout: Path, capfd: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    line = refused(checkout, capfd, *arguments)
    assert line.startswith("Error: ")
    assert says in line


@pytest.mark.parametrize(
    ("registry", "name"),
    [
        ("flow-images", "docker.io/flow-images/predict:1-gcs"),
        ("registry.example/team", "registry.example/team/predict:1-gcs"),
        ("localhost:5000", "localhost:5000/predict:1-gcs"),
        ("localhost/team", "localhost/team/predict:1-gcs"),
        ("me/project", "docker.io/me/project/predict:1-gcs"),
    ],
)
def test_a_name_is_what_a_node_would_pull(registry: str, name: str) -> None:
    wanted = Wanted(["predict"], registry, "1", ["gcs"])
    assert wanted.name("predict") == name
    assert wanted.name("server").endswith("server:1")


@pytest.mark.parametrize("store", ["gcs", "s3"])
def test_the_tag_of_a_bucket_is_what_its_component_asks_for(store: str) -> None:
    component = yaml.safe_load((K8S / f"components/bucket-{store.replace('gcs', 'gs')}/kustomization.yaml").read_text())
    wanted = Wanted(list(IMAGES), "flow-images", re.sub(r"-\w+$", "", component["images"][0]["newTag"]), [store])
    asked = {f"docker.io/{image['name']}:{image['newTag']}" for image in component["images"]}
    assert asked <= {wanted.name(image) for image in IMAGES}


def test_each_image_is_a_stage_with_its_extra_and_a_base_by_digest() -> None:
    text = (ROOT / CONTAINERFILE).read_text()
    for image, extra in IMAGES.items():
        assert f"FROM build AS build-{image}\nARG EXTRAS={extra}\n" in text
        assert f"FROM runtime AS {image}\n" in text
    assert re.search(
        r"^ARG BASE=docker\.io/library/python:3\.11-slim-bookworm@sha256:[0-9a-f]{64}$", text, re.MULTILINE
    )


def test_it_needs_nothing_but_python(checkout: Path) -> None:
    command = [sys.executable, "-I", "-S", "-c", "import sys; sys.path.insert(0, sys.argv[1]); import k8s.images.build"]
    subprocess.run([*command, str(ROOT)], check=True, cwd=checkout)


@pytest.mark.slow
@pytest.mark.usefixtures("buildah")
class TestBuilding:
    """With buildah, and mostly a registry."""

    @pytest.fixture
    def pushed(self, checkout: Path, registry: Registry, capfd: pytest.CaptureFixture[str]) -> tuple[str, str]:
        """What the command prints: for an overlay, and for a person."""
        arguments = ["--engine=buildah", "--registry", f"{registry.address}/team", "--push", "--extras=s3"]
        assert main(arguments, checkout) == 0
        printed = capfd.readouterr()
        return printed.out, printed.err

    def test_what_is_printed_is_what_the_registry_has(
        self, checkout: Path, registry: Registry, pushed: tuple[str, str]
    ) -> None:
        images = yaml.safe_load(pushed[0])["images"]
        assert [image["name"] for image in images] == [f"flow-images/{image}" for image in IMAGES]
        for image in images:
            name, tag = image["name"].split("/")[1], "1.2.0" if image["name"].endswith("server") else "1.2.0-s3"
            assert image["newName"] == f"{registry.address}/team/{name}"
            by_tag = registry.get(f"team/{name}/manifests/{tag}")
            assert by_tag == registry.get(f"team/{name}/manifests/{image['digest']}")
            assert re.search(rf"^{image['newName']}:{tag} +\S+ \S+ +{image['digest']}$", pushed[1], re.MULTILINE)
            labels = registry.labels(f"team/{name}", image["digest"])
            assert {key: value for key, value in labels.items() if not key.startswith("io.buildah")} == {
                "org.opencontainers.image.title": name,
                "org.opencontainers.image.revision": run_git(checkout, "rev-parse", "HEAD"),
                "org.opencontainers.image.created": "2026-01-02T03:04:05Z",
                "org.opencontainers.image.base.name": "docker.io/library/python:3.11",
                "org.opencontainers.image.base.digest": BASE_DIGEST,
                "flow-images.describe": "v1.2.0",
            }
            assert json.loads((checkout / f"dist/sbom/{name}-{tag}.spdx.json").read_text()) == {}

    @pytest.mark.skipif(not kubectl(), reason="needs kubectl")
    def test_an_overlay_takes_what_is_printed(self, tmp_path: Path, pushed: tuple[str, str]) -> None:
        folder = tmp_path / "overlay"
        folder.mkdir()
        (folder / "deployment.yaml").write_text(
            "{apiVersion: v1, kind: Pod, metadata: {name: a}, "
            "spec: {containers: [{name: a, image: flow-images/predict:1.2.0-s3}]}}"
        )
        (folder / "kustomization.yaml").write_text(f"resources: [deployment.yaml]\n{pushed[0]}")
        (pod,) = build(folder)
        image = yaml.safe_load(pushed[0])["images"][1]
        assert pod["spec"]["containers"][0]["image"] == f"{image['newName']}@{image['digest']}"

    def test_what_is_not_committed_and_not_pushed_is_said(
        self, checkout: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        (checkout / "README.md").write_text("changed")
        assert main(["server", "--engine=buildah", "--tag=2"], checkout) == 0
        printed = capfd.readouterr()
        revision = run_git(checkout, "rev-parse", "HEAD") + "-dirty"
        assert f"changes that are in no commit: the images' revision is {revision}." in printed.err
        assert yaml.safe_load(printed.out)["images"] == [
            {"name": "flow-images/server", "newName": "docker.io/flow-images/server", "newTag": "2"}
        ]

    def test_the_digest_of_another_base_is_looked_up(
        self, checkout: Path, registry: Registry, capfd: pytest.CaptureFixture[str]
    ) -> None:
        arguments = ["server", "--engine=buildah", "--registry", registry.address, "--push"]
        assert main(arguments, checkout) == 0
        digest = yaml.safe_load(capfd.readouterr().out)["images"][0]["digest"]
        subprocess.run(["buildah", "rmi", "--all"], check=True, capture_output=True)  # so that it is pulled
        assert main([*arguments, "--base", f"{registry.address}/server:1.2.0", "--tag=2"], checkout) == 0
        printed = capfd.readouterr()
        assert f"Building with buildah on {registry.address}/server:1.2.0@{digest}." in printed.err
        second = yaml.safe_load(printed.out)["images"][0]["digest"]
        assert registry.labels("server", second)["org.opencontainers.image.base.digest"] == digest

    def test_what_was_installed_has_a_name_if_it_is_to_be_kept(self, checkout: Path) -> None:
        assert main(["server", "--engine=buildah", "--keep"], checkout) == 0
        done = subprocess.run(["buildah", "images", "--format={{.Name}}"], capture_output=True, text=True, check=True)
        assert {"localhost/build-server", "docker.io/flow-images/server"} <= set(done.stdout.split())

    def test_a_base_that_is_nowhere_is_one_line(
        self, checkout: Path, registry: Registry, capfd: pytest.CaptureFixture[str]
    ) -> None:
        base = f"{registry.address}/python:3"
        assert main(["--engine=buildah", f"--base={base}"], checkout) == 2
        (line,) = capfd.readouterr().err.splitlines()
        assert line.startswith(f"Error: BASE={base} can't be had: ")
