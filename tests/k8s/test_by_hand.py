"""`make cluster`: from its start to nothing left, and what it says where it can't start."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.k8s.builds import CACHE, K8S
from tests.k8s.cluster.node import not_built

SCRIPT = Path(__file__).with_name("cluster") / "by_hand.sh"
MESSAGE = "Ctrl-C here ends it"


class Cluster:
    """One that runs, as its user sees it."""

    def __init__(self, process: subprocess.Popen[str], said: str) -> None:
        self.process = process
        self.said = said
        (path,) = re.findall(r"export PATH=(\S+):\$PATH", said)
        self.folder = Path(path).parent

    def call(self, *command: str) -> str:
        """What a command prints in another terminal, after the line that is to be pasted there."""
        environment = {**os.environ, "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}"}
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout

    def left(self) -> list[str]:
        """Its folder, control groups, mounts and processes."""
        name = self.folder.name
        groups = Path("/sys/fs/cgroup")
        found = [str(path) for path in (self.folder, groups / name, *groups.glob(f"*/{name}")) if path.exists()]
        found += [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if name in line]
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if name.encode() in (process / "environ").read_bytes():
                    found.append((process / "cmdline").read_text())
            except OSError:
                pass  # It has just ended.
        return found


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """What is built, but with a lock of its own: another cluster may run on this machine."""
    for name in ("bin", "images"):
        (tmp_path / name).symlink_to(CACHE / name)
    return {**os.environ, "FLOW_IMAGES_K8S": str(tmp_path), "PYTHON": sys.executable, "PYTHONPATH": str(K8S.parent)}


@pytest.fixture
def cluster(environment: dict[str, str]) -> Iterator[Cluster]:
    # Ctrl-C goes to the process group of a terminal.
    command = ["env", "--default-signal=INT", str(SCRIPT), "--cached"]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout
        said = ""
        for line in process.stdout:
            said += line
            if MESSAGE in line:
                break
        assert MESSAGE in said, said
        yield Cluster(process, said)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)


@pytest.mark.k8s
@pytest.mark.timeout(600)
@pytest.mark.skipif(bool(os.getuid()), reason="needs root")
@pytest.mark.skipif(not_built() is not None, reason=not_built() or "")
def test_a_cluster_is_used_from_another_terminal_and_leaves_nothing(
    cluster: Cluster, environment: dict[str, str]
) -> None:
    assert cluster.call("kubectl", "get", "nodes", "-o", "name") == "node/node\n"
    cluster.call("kubectl", "apply", "-f", str(K8S / "components/own-namespace/namespace.yaml"))
    cluster.call("kubectl", "apply", "-k", str(cluster.folder / "overlay"), "-l", "app.kubernetes.io/component=storage")
    cluster.call("kubectl", "apply", "-f", str(K8S / "files.yaml"))
    cluster.call("kubectl", "-n", "flow-images", "wait", "--for=condition=Ready", "pod/files", "--timeout=120s")
    listed = cluster.call("kubectl", "-n", "flow-images", "exec", "files", "--", "ls", "/images")
    assert listed.split() == ["hub", "labels.csv", "photos", "train"]
    assert cluster.call("flow-images", "deploy", "status")
    assert cluster.left()

    second = subprocess.run([SCRIPT, "--cached"], env=environment, capture_output=True, text=True)
    assert second.returncode == 2
    assert f"one runs already, with its commands in {cluster.folder}/bin" in second.stderr

    os.killpg(cluster.process.pid, signal.SIGINT)
    assert cluster.process.wait(120) == 0
    assert cluster.left() == []


def test_without_root_it_says_so() -> None:
    # Within a user namespace of its own, root is nobody.
    command = [str(SCRIPT)] if os.getuid() else ["unshare", "--user", str(SCRIPT)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "needs root" in done.stderr


@pytest.mark.skipif(bool(os.getuid()), reason="needs root")
def test_without_go_it_says_so(tmp_path: Path) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    for folder in os.environ["PATH"].split(os.pathsep):
        for program in Path(folder).iterdir() if Path(folder).is_dir() else ():
            if program.name != "go" and not (programs / program.name).is_symlink():
                (programs / program.name).symlink_to(program)
    assert shutil.which("go", path=str(programs)) is None
    environment = {**os.environ, "PATH": str(programs), "FLOW_IMAGES_K8S": str(tmp_path / "cache")}
    done = subprocess.run([SCRIPT], env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert "Go, which builds Kubernetes from its source, is missing" in done.stderr
    assert "could not be built" in done.stderr
