"""What `import flow_images as fi` gives: these names, documented and typed, each loaded when it is used."""

import inspect
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import flow_images as fi
from serving import errors as all_errors

ROOT = Path(__file__).resolve().parents[2]
NAMES = [
    "Account",
    "AsyncClient",
    "Classification",
    "Client",
    "EmbeddedServer",
    "EvaluatedModel",
    "ImageLimits",
    "LabelScore",
    "ModelOverrides",
    "Progress",
    "ServerProcess",
    "StorageOptions",
    "TlsOptions",
    "TrainedModel",
    "__version__",
    "beam",
    "errors",
    "evaluate",
    "predict",
    "train",
]


def test_these_names_are_public() -> None:
    assert fi.__all__ == NAMES == sorted(NAMES)
    assert set(NAMES) <= set(dir(fi))


@pytest.mark.parametrize("name", [name for name in NAMES if name != "__version__"])
def test_each_is_there_and_documented(name: str) -> None:
    value = getattr(fi, name)
    assert len(inspect.getdoc(value) or "") > 15
    if isinstance(value, ModuleType):
        for inner in value.__all__:
            assert inspect.getdoc(getattr(value, inner)), inner


def functions(value: Any) -> list[Any]:
    """A function; of a class its constructor and its public methods, as far as they are written here."""
    if not inspect.isclass(value):
        return [value]
    return [
        function
        for name, function in inspect.getmembers(value, inspect.isfunction)
        if (name == "__init__" or not name.startswith("_"))
        and function.__module__.split(".")[0] in ("flow_images", "serving", "beam_jobs")
    ]


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("__version__", "beam", "errors")])
def test_each_is_annotated(name: str) -> None:
    for function in functions(getattr(fi, name)):
        signature = inspect.signature(function)
        untyped = [
            parameter.name
            for parameter in signature.parameters.values()
            if parameter.name != "self" and parameter.annotation is inspect.Parameter.empty
        ]
        assert not untyped, f"{function.__qualname__}: {untyped}"
        assert signature.return_annotation is not inspect.Signature.empty or function.__name__ == "__init__"


@pytest.mark.parametrize("function", ["predict", "train"])
def test_a_whole_job_shows_its_keywords(function: str) -> None:
    parameters = inspect.signature(getattr(fi, function)).parameters
    wanted = {
        "predict": {"inputs", "output", "server", "wire"},
        "train": {"labels", "hub_model", "model_store", "name"},
    }
    assert wanted[function] <= parameters.keys()


def test_every_error_is_public() -> None:
    ours = {
        name
        for name, value in vars(all_errors).items()
        if inspect.isclass(value) and issubclass(value, all_errors.FlowImagesError)
    }
    assert fi.errors.__all__ == sorted(ours)
    assert all(getattr(fi.errors, name) is getattr(all_errors, name) for name in ours)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Clinet'"):
        fi.Clinet  # type: ignore[attr-defined]  # noqa: B018


def test_importing_the_package_imports_nothing_else() -> None:
    script = (
        "import sys; before = set(sys.modules); import flow_images; "
        "print(sorted(set(sys.modules) - before - {'flow_images'}))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("use", "not_loaded"),
    [
        ("fi.Client('localhost:8500', 'dogs')", ("tensorflow", "apache_beam", "boto3", "PIL")),
        ("fi.errors.UsageError", ("tensorflow", "apache_beam", "boto3", "PIL", "pydantic")),
        ("fi.predict", ("tensorflow", "apache_beam", "boto3")),
        ("fi.train", ("tensorflow", "apache_beam", "boto3")),
        ("fi.EmbeddedServer", ("apache_beam", "boto3")),
        ("fi.beam.Classify('localhost:8500', 'dogs')", ("tensorflow",)),
    ],
)
def test_a_name_loads_only_what_it_needs(use: str, not_loaded: tuple[str, ...]) -> None:
    script = f"import sys, flow_images as fi; {use}; print([name for name in {not_loaded} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "call",
    [
        "fi.predict(inputs=['x'], output='out', server='localhost:1', model_name='m')",
        "fi.train(folder='x', model_store='models', name='m')",
        "from flow_images.image_inputs import file_of; file_of('caf\\u00e9.jpg', fi.ImageLimits(), None)",
    ],
)
def test_a_python_that_reads_names_in_another_encoding_is_told_the_way_out(call: str, tmp_path: Path) -> None:
    foreign = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", f"import flow_images as fi\n{call}"], cwd=tmp_path, env=os.environ | foreign,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "UsageError: this Python takes file names for ascii: start it with PYTHONUTF8=1" in done.stderr
