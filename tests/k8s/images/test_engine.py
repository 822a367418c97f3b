"""Buildah and podman are real in `TestReal`, with a storage of their own; before it, scripts stand for engines."""

import os
import subprocess
from pathlib import Path

import pytest

from k8s.images.engine import Buildah, Engine, EngineFailed, Podman, find
from serving.errors import UsageError
from tests.k8s.answers import Answers
from tests.k8s.images.conftest import Registry, without_tls

NO_DAEMON = "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?"
DIGEST = "sha256:" + "1" * 64


def script(folder: Path, name: str, code: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{code}\n")
    (folder / name).chmod(0o755)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder of PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def test_an_engine_that_works_is_found_behind_one_that_does_not_answer(programs: Path) -> None:
    script(programs, "docker", f"echo 'Client: 28'; echo '{NO_DAEMON}' >&2; exit 1")
    script(programs, "buildah", "echo fine")
    engine, tried = find(None)
    assert engine.name == "buildah"
    assert tried == [f"docker is installed, but does not work: {NO_DAEMON}", "podman is not installed"]


def test_the_first_that_works_is_taken(programs: Path) -> None:
    for name in ("buildah", "podman", "docker"):
        script(programs, name, "echo fine")
    assert find(None)[0].name == "docker"
    assert find("podman")[0].name == "podman"


@pytest.mark.usefixtures("programs")
def test_without_any_all_are_named() -> None:
    with pytest.raises(
        UsageError, match=r"^Nothing here builds images: docker is not .*podman is not .*buildah is not"
    ):
        find(None)


def test_a_wanted_engine_is_not_replaced_by_another(programs: Path) -> None:
    script(programs, "buildah", "echo fine")
    script(programs, "docker", f"echo '{NO_DAEMON}' >&2; exit 1")
    with pytest.raises(UsageError, match=r"docker is installed, but does not work: Cannot connect.*running\?$"):
        find("docker")


def test_an_engine_that_hangs_counts_as_none(programs: Path) -> None:
    script(programs, "docker", "exec /bin/sleep 600")
    with pytest.raises(EngineFailed, match="no answer in"):
        Engine().ask("info", within_s=0.5)


@pytest.mark.parametrize("kind", [Engine, Podman])
def test_a_build_is_told_all_of_it(programs: Path, tmp_path: Path, kind: type[Engine]) -> None:
    script(programs, kind.name, f'echo "$@" >{tmp_path}/told')
    kind().build(
        tmp_path, "predict", "docker.io/flow-images/predict:1", values={"EXTRAS": "predict,gcs"},
        labels={"a": "b c"}, epoch=1700000000, more=["--network=host"],
    )  # fmt: skip
    told = (tmp_path / "told").read_text()
    for part in (
        "build --target predict --tag docker.io/flow-images/predict:1 --build-arg EXTRAS=predict,gcs --label a=b c",
        "--build-arg SOURCE_DATE_EPOCH=1700000000",
        f"--network=host --file {tmp_path}/k8s/images/Containerfile {tmp_path}\n",
    ):
        assert part in told
    assert ("--timestamp 1700000000" in told) == (kind is Podman)


def test_docker_says_the_digest_as_it_pushes(programs: Path) -> None:
    script(programs, "docker", f"echo '1.0: digest: {DIGEST} size: 1234'")
    assert Engine().push("registry.example/team/predict:1.0") == DIGEST


def test_podman_writes_the_digest_that_it_pushed(programs: Path) -> None:
    script(programs, "podman", f'[ "$1 $2" = "push --digestfile" ] && echo {DIGEST} >"$3"')
    assert Podman().push("registry.example/team/predict:1.0") == DIGEST


@pytest.mark.parametrize(
    "said",
    [
        "denied: requested access to the resource is denied",
        "unauthorized: authentication required",
        "no basic auth credentials",
    ],
)
def test_who_is_not_logged_in_is_told_how(programs: Path, said: str) -> None:
    script(programs, "docker", f"echo pushing; echo '{said}' >&2; exit 1")
    with pytest.raises(
        EngineFailed, match=rf"predict:1 was built, and can't be pushed: {said}.*`docker login reg.example`"
    ):
        Engine().push("reg.example/team/predict:1")


def test_docker_finds_a_base_here_or_pulls_it(programs: Path, tmp_path: Path) -> None:
    script(
        programs, "docker",
        f"""case "$1 $2" in
        "pull python:3") echo >{tmp_path}/pulled ;;
        "image inspect") [ -e {tmp_path}/pulled ] || exit 1; echo library/python@{DIGEST} ;;
        *) exit 1 ;;
        esac""",
    )  # fmt: skip
    assert Engine().digest_of_base("python:3") == DIGEST
    (tmp_path / "pulled").unlink()
    with pytest.raises(UsageError, match="BASE=nowhere can't be had"):
        Engine().digest_of_base("nowhere")


def test_docker_copies_a_file_out_of_an_image_without_running_it(programs: Path, tmp_path: Path) -> None:
    script(
        programs, "docker",
        f'echo "$@" >>{tmp_path}/told; case $1 in create) echo c1 ;; cp) echo content >"$3" ;; esac',
    )  # fmt: skip
    Engine().copy_from("predict:1", "/a/file", tmp_path / "file")
    assert (tmp_path / "file").read_text() == "content\n"
    assert (tmp_path / "told").read_text().splitlines()[0::2] == ["create predict:1", "rm c1"]


@pytest.mark.slow
class TestReal:
    """Buildah, and podman where it is installed, build, push and copy for real."""

    @pytest.fixture(params=[Buildah, Podman])
    def engine(self, request: pytest.FixtureRequest, storage: None) -> Engine:
        engine: Engine = request.param()
        if obstacle := engine.obstacle():
            pytest.skip(f"{engine.name} {obstacle}")
        return engine

    def test_an_image_that_is_pushed_is_the_one_that_was_built(
        self, engine: Engine, checkout: Path, registry: Registry
    ) -> None:
        name = f"{registry.address}/team/predict:1"
        engine.build(checkout, "predict", name, values={"EXTRAS": ""}, labels={"a": "b c"}, epoch=1700000000)
        digest = engine.push(name)
        manifest = registry.get("team/predict/manifests/1")
        done = subprocess.run(["sha256sum"], input=manifest, capture_output=True, check=True)
        assert digest == f"sha256:{done.stdout.decode().split()[0]}"
        labels = registry.labels("team/predict", digest)
        assert labels["a"] == "b c"
        assert labels["org.opencontainers.image.title"] == "predict"

    def test_the_same_input_gives_the_same_image(self, engine: Engine, checkout: Path, registry: Registry) -> None:
        digests = set()
        for name in ("once", "again"):
            image = f"{registry.address}/team/{name}:1"
            engine.build(checkout, "server", image, values={}, labels={}, epoch=1700000000, more=["--no-cache"])
            os.utime(checkout / "README.md")
            digests.add(engine.push(image))
        assert len(digests) == 1

    def test_a_file_of_an_image(self, engine: Engine, checkout: Path, tmp_path: Path) -> None:
        engine.build(checkout, "server", "localhost/server:1", values={}, labels={}, epoch=1)
        engine.copy_from("localhost/server:1", "/README.md", tmp_path / "copied")
        assert (tmp_path / "copied").read_text() == "README.md\n"
        assert engine.size("localhost/server:1").endswith(("B", "bytes"))
        assert engine.digest_of_base("localhost/server:1").startswith("sha256:")

    def test_a_build_that_fails(self, engine: Engine, checkout: Path) -> None:
        with pytest.raises(EngineFailed, match=rf"{engine.name} did not build localhost/no:1 \(exit code \d+\)"):
            engine.build(checkout, "nothing", "localhost/no:1", values={}, labels={}, epoch=1)

    def test_a_registry_that_is_not_there(self, engine: Engine, checkout: Path) -> None:
        engine.build(checkout, "server", "localhost:1/team/server:1", values={}, labels={}, epoch=1)
        with pytest.raises(EngineFailed, match=r"localhost:1/team/server:1 was built, and can't be pushed: .*refused"):
            engine.push("localhost:1/team/server:1")

    def test_a_registry_that_wants_a_login(
        self, engine: Engine, checkout: Path, answers: Answers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        answers.status = 401
        address = answers.url.removeprefix("http://")
        without_tls(address, tmp_path, monkeypatch)
        engine.build(checkout, "server", f"{address}/server:1", values={}, labels={}, epoch=1)
        with pytest.raises(EngineFailed, match=rf"authentication required.*`{engine.name} login {address}`"):
            engine.push(f"{address}/server:1")
