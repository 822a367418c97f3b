"""The architecture as tests: imports point one way, and nothing heavy is loaded before it is needed."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAY_IMPORT = {
    "serving": {"serving"},
    "trainer": {"trainer", "serving"},
    "beam_jobs": {"beam_jobs", "serving"},
    "k8s": {"k8s", "serving"},
}
HEAVY = ("tensorflow", "apache_beam", "tf_keras", "tensorflow_hub", "kubernetes", "rich", "pydantic", "PIL", "boto3")


def imports(path: Path) -> set[str]:
    """Every module that a file imports, functions' own imports included."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_point_one_way(package: str) -> None:
    files = list((ROOT / package).rglob("*.py"))
    assert files
    ours = set(MAY_IMPORT) | {"tests", "flow_images", "benchmarks"}
    for path in files:
        wrong = {name for name in imports(path) if name.split(".")[0] in ours - MAY_IMPORT[package]}
        assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}"


def test_no_module_reaches_into_anothers_privates() -> None:
    for package in MAY_IMPORT:
        for path in (ROOT / package).rglob("*.py"):
            for name in imports(path):
                parts = name.split(".")
                if parts[0] not in MAY_IMPORT:
                    continue
                private = [i for i, part in enumerate(parts) if part.startswith("_")]
                inside = private and path.is_relative_to(ROOT.joinpath(*parts[: private[0]]))
                assert not private or inside, f"{path.relative_to(ROOT)} imports {name}"


@pytest.mark.parametrize(
    "module",
    [
        "flow_images",
        "flow_images.cli",
        "flow_images.demo",
        "serving",
        "flow_images.classify_command",
        "serving.server",
        "serving.server.run.serve_command",
        "trainer",
        "trainer.train_command",
        "beam_jobs",
        "beam_jobs.predict_command",
        "k8s.deploy.deploy_command",
    ],
)
def test_importing_a_command_loads_nothing_heavy(module: str) -> None:
    script = f"import sys, {module}; print([n for n in {HEAVY} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_the_wire_protos_are_generated_from_their_source(tmp_path: Path) -> None:
    source = "serving/protos/prediction.proto"
    subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", "-I.", f"--python_out={tmp_path}", source], check=True, cwd=ROOT
    )
    made = (tmp_path / "serving/protos/prediction_pb2.py").read_text()
    assert made == (ROOT / "serving/protos/prediction_pb2.py").read_text()
