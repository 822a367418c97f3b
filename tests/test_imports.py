"""The architecture as tests: imports point one way, in no circle, and nothing heavy is loaded before it is needed."""

import ast
import functools
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# What each package may import of ours. Nothing but flow_images imports flow_images, which may import all.
MAY_IMPORT = {
    "serving": {"serving"},
    "trainer": {"trainer", "serving"},
    "beam_jobs": {"beam_jobs", "serving"},
    "k8s": {"k8s", "serving"},
    "flow_images": {"flow_images", "serving", "trainer", "beam_jobs", "k8s"},
}
# Inside serving/: the rooms at the bottom, and what none of them may know; the server and its clients are strangers.
LOW_ROOMS = ("storage", "images", "console", "network", "process", "text", "page")
CLIENT = "serving.client"
HEAVY = ("tensorflow", "apache_beam", "tf_keras", "tensorflow_hub", "kubernetes", "rich", "pydantic", "PIL", "boto3")


def our_modules() -> dict[str, Path]:
    """Every module of the packages, by its dotted name; a package is its `__init__`."""
    found = {}
    for package in MAY_IMPORT:
        for path in (ROOT / package).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    assert len(found) > 100
    return found


OURS = our_modules()


@functools.cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """All that a file is made of."""
    return tuple(ast.walk(ast.parse(path.read_text())))


def imports(path: Path) -> set[str]:
    """Every module that a file imports, functions' own imports and those for types included."""
    found = set()
    for node in nodes(path):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def imported_of_ours(name: str) -> set[str]:
    """The modules of ours that one of them needs: of `from a import b`, a.b and not a."""
    found: set[str] = set()
    for node in nodes(OURS[name]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(whole if whole in OURS else node.module)
    return (found & set(OURS)) - {name}


def test_imports_point_one_way() -> None:
    for name, path in OURS.items():
        package = name.split(".")[0]
        strangers = set(MAY_IMPORT) | {"tests", "benchmarks"}
        wrong = {other for other in imports(path) if other.split(".")[0] in strangers - MAY_IMPORT[package]}
        assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}"


def test_there_are_no_circles() -> None:
    """An import within a function or for types only is a dependency, too."""
    graph = {name: imported_of_ours(name) for name in OURS}
    assert "serving.errors" in graph["serving.network.retry"]
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail("a circle: " + " is imported by ".join(error.args[1]))


def test_the_rooms_at_the_bottom_know_no_client_and_no_server() -> None:
    above = {name for name in OURS if name.startswith(CLIENT)}
    assert len(above) > 5
    for name in OURS:
        if name.startswith(tuple(f"serving.{room}" for room in LOW_ROOMS)):
            wrong = {other for other in imported_of_ours(name) if other in above or other.startswith("serving.server")}
            assert not wrong, f"{name} imports {wrong}"


def test_the_server_knows_no_client() -> None:
    above = {name for name in OURS if name.startswith(CLIENT)}
    for name in OURS:
        if name.startswith("serving.server"):
            assert not imported_of_ours(name) & above, f"{name} imports {imported_of_ours(name) & above}"


def test_pods_and_the_deploy_client_are_apart() -> None:
    for name in OURS:
        for here, there in (("k8s.pods", "k8s.deploy"), ("k8s.deploy", "k8s.pods")):
            if name.startswith(here):
                assert not {other for other in imported_of_ours(name) if other.startswith(there)}, name


def test_no_module_reaches_into_anothers_privates() -> None:
    for path in OURS.values():
        for name in imports(path):
            parts = name.split(".")
            if parts[0] not in MAY_IMPORT:
                continue
            private = [i for i, part in enumerate(parts) if part.startswith("_") and part != "__version__"]
            inside = private and path.is_relative_to(ROOT.joinpath(*parts[: private[0]]))
            assert not private or inside, f"{path.relative_to(ROOT)} imports {name}"


def test_loggers_are_named_for_their_modules() -> None:
    """Only a module that is run as a program takes its package's name; others' loggers are set, not written to."""
    for path in OURS.values():
        for node in nodes(path):
            if isinstance(node, ast.Assign) and ast.unparse(node.value).startswith("logging.getLogger("):
                assert ast.unparse(node.value) == "logging.getLogger(__name__)" or path.name == "__main__.py", path


def test_no_name_ends_with_an_underscore() -> None:
    found: set[str] = set()
    for path in OURS.values():
        if path.name.endswith("_pb2.py"):
            continue
        stored = {node.id for node in nodes(path) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
        taken = {node.arg for node in nodes(path) if isinstance(node, ast.arg)}
        wrong = {name for name in stored | taken if name.endswith("_") and not name.startswith("_")}
        found |= {f"{path.relative_to(ROOT)}: {name}" for name in wrong}
    assert not found


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
        "beam_jobs.report.report_command",
        "beam_jobs.sort.sort_command",
        "beam_jobs.check.check_command",
        "k8s.deploy.deploy_command",
    ],
)
def test_importing_a_command_loads_nothing_heavy(module: str) -> None:
    script = f"import sys, {module}; print([n for n in {HEAVY} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def imported(*command: str, until: str | None = None) -> set[str]:
    """The top packages that a command of Python imports, to its end or until it has printed something.

    Those of child processes don't count.
    """
    timed = [sys.executable, "-X", "importtime", *command]
    found: set[str] = set()
    with subprocess.Popen(timed, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("import time:"):
                found.add(line.rsplit("|", 1)[1].strip().split(".")[0])
            elif until is not None and until in line:
                process.terminate()
                break
        else:
            assert until is None, f"{command} ended without {until!r}"
    assert "serving" in found
    return found


OF_TRAINING = {"keras", "tf_keras", "tensorflow_hub", "sklearn", "matplotlib", "kubernetes"}


def test_the_jobs_and_the_clients_need_no_tensorflow(model_store: Path, drawn: Path, tmp_path: Path) -> None:
    """With a server of their own; what that loads is another process's."""
    photos = drawn / "train"
    command = ("-m", "flow_images", "predict", "--model", str(model_store), "--output")
    for wire in ("encoded", "float32"):
        found = imported(*command, str(tmp_path / wire), "--input", str(photos), "--wire", wire)
        assert (tmp_path / wire / "predictions.csv").exists()
        assert found & {"tensorflow", "apache_beam", *OF_TRAINING} == {"apache_beam"}
    found = imported("-m", "flow_images", "classify", str(min(photos.iterdir())), "--model", str(model_store))
    assert not found & {"tensorflow", "apache_beam", "rich", "boto3", "pyarrow", *OF_TRAINING}


def test_a_server_imports_no_keras_and_no_beam(model_store: Path, tmp_path: Path) -> None:
    flags = ("--port=0", f"--grpc_socket_path={tmp_path / 'x'}", f"--model_base_path={model_store}")
    found = imported("-m", "serving.server", *flags, until="Running gRPC ModelServer")
    assert found & {"tensorflow", "apache_beam", "rich", "boto3", "pydantic", "PIL", *OF_TRAINING} == {"tensorflow"}


def test_the_wire_protos_are_generated_from_their_source(tmp_path: Path) -> None:
    source = "serving/network/protos/prediction.proto"
    subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", "-I.", f"--python_out={tmp_path}", source], check=True, cwd=ROOT
    )
    made = (tmp_path / "serving/network/protos/prediction_pb2.py").read_text()
    assert made == (ROOT / "serving/network/protos/prediction_pb2.py").read_text()
