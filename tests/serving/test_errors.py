"""The error tree: whole in its drawing, of one name each, and fit for pickling and for Beam."""

import ast
import builtins
import importlib
import inspect
import pickle
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import click
import grpc
import pytest

from flow_images.cli import COMMANDS, Command
from serving import errors
from serving.console.flags_in_messages import with_flags
from serving.errors import (
    EXIT_FAILED,
    EXIT_NOT_BLESSED,
    EXIT_RESUMABLE,
    EXIT_USAGE,
    FlowImagesError,
    Resumable,
    ServingError,
    StorageError,
)

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("serving", "trainer", "beam_jobs", "k8s", "flow_images")
DRAWN = re.compile(r"^(?P<indent>[│├└─ ]*)(?P<name>[A-Z]\w+) +(?P<text>\S.*)$")
MODULE = re.compile(r"\[([\w.]+)\]")
EXIT_CODE = re.compile(r"\((\d+)\)$")


def _exceptions() -> Iterator[tuple[str, str]]:
    """Module and name of every exception class in the project, by the names of their bases."""
    classes = [
        (".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"), node)
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
    ]
    known = {
        name for name, value in vars(builtins).items() if isinstance(value, type) and issubclass(value, BaseException)
    }
    found: set[tuple[str, ast.ClassDef]] = set()
    while new := {
        (module, node)
        for module, node in classes
        if (module, node) not in found and any(ast.unparse(base).rpartition(".")[2] in known for base in node.bases)
    }:
        found |= new
        known |= {node.name for _, node in new}
    yield from ((module, node.name) for module, node in found)


EXCEPTIONS = sorted(_exceptions())


def _of_users() -> dict[str, type[FlowImagesError]]:
    """The classes below FlowImagesError, and itself, by name."""
    classes = [getattr(importlib.import_module(module), name, None) for module, name in EXCEPTIONS]
    return {kind.__name__: kind for kind in classes if isinstance(kind, type) and issubclass(kind, FlowImagesError)}


ERRORS = _of_users()


def _drawing() -> Iterator[tuple[str, str, str]]:
    """Base, name and text of each line of the drawing."""
    path: list[str] = []
    for line in inspect.getdoc(errors).split("\n"):  # type: ignore[union-attr]
        if (drawn := DRAWN.match(line)) and (drawn["indent"] or drawn["name"] == FlowImagesError.__name__):
            depth = len(drawn["indent"]) // 4
            path[depth:] = [drawn["name"]]
            yield path[depth - 1] if depth else "", drawn["name"], drawn["text"]


def test_the_drawing_is_whole() -> None:
    bases = {
        (base.__name__, kind.__name__)
        for kind in ERRORS.values()
        for base in kind.__bases__
        if issubclass(base, FlowImagesError)
    }
    assert Counter((base, name) for base, name, _ in _drawing()) == Counter([*bases, ("", FlowImagesError.__name__)])


def test_the_drawing_says_where_a_class_is_and_its_exit_code() -> None:
    explained = set()
    for _, name, text in _drawing():
        code = EXIT_CODE.search(text)
        assert ERRORS[name]("message").exit_code == int(code[1] if code else EXIT_FAILED), name
        if not EXIT_CODE.sub("", text):
            continue  # drawn the second time
        module = MODULE.search(text)
        assert ERRORS[name].__module__ == (module[1] if module else "serving.errors")
        explained.add(name)
    assert explained == set(ERRORS)


def test_no_two_exceptions_have_one_name() -> None:
    count = Counter(name for _, name in EXCEPTIONS)
    assert [name for name, times in count.items() if times > 1] == []


def _made(kind: type[FlowImagesError]) -> FlowImagesError:
    if issubclass(kind, ServingError):
        return kind("it failed", "localhost:8500", grpc.StatusCode.ABORTED)
    return kind("it failed")


@pytest.mark.parametrize("kind", ERRORS.values(), ids=ERRORS)
def test_an_error_can_be_pickled(kind: type[FlowImagesError]) -> None:
    error = _made(kind)
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), again.args, str(again), again.exit_code) == (kind, error.args, str(error), error.exit_code)


@pytest.mark.parametrize("kind", ERRORS.values(), ids=ERRORS)
def test_beam_can_build_an_error_again_with_the_name_of_the_step(kind: type[FlowImagesError]) -> None:
    error = _made(kind)
    again = type(error)(error.args[0] + " [while running 'Predict']", *error.args[1:])
    assert str(again).startswith("it failed [while running 'Predict']")
    assert again.exit_code == error.exit_code
    if isinstance(error, ServingError):
        assert isinstance(again, ServingError)
        assert (again.code, again.target) == (grpc.StatusCode.ABORTED, "localhost:8500")


def test_an_error_before_the_call_has_no_code() -> None:
    error = ServingError("it can't be sent")
    assert (error.code, error.target, str(error)) == (None, "", "it can't be sent")


def test_one_base_answers_one_question() -> None:
    assert not issubclass(errors.StorageUnavailable, ServingError)
    assert not issubclass(errors.ServerUnavailable, StorageError)
    for kind in ERRORS.values():
        assert not issubclass(kind, ServingError) or not issubclass(kind, StorageError)
        assert issubclass(kind, Resumable) == (kind("message").exit_code == EXIT_RESUMABLE), kind
    assert [
        name
        for name, kind in ERRORS.items()
        if kind("").exit_code not in {EXIT_FAILED, EXIT_USAGE, EXIT_NOT_BLESSED, EXIT_RESUMABLE}
    ] == []


DEPLOY = ("cleanup", "deploy", "predict", "resume", "rollback", "serve", "status", "suspend", "train")
COMMAND_MODULES = {
    "beam_jobs/predict_command.py",
    "beam_jobs/check/check_command.py",
    "beam_jobs/report/report_command.py",
    "beam_jobs/sort/sort_command.py",
    "flow_images/cli.py",
    "flow_images/demo.py",
    *(f"k8s/deploy/{name}_command.py" for name in DEPLOY),
    "k8s/deploy/apply_and_wait.py",
    "k8s/pods/sync_models.py",
    "k8s/pods/train_with_bucket.py",
    "k8s/pods/wait_for_model.py",
    "flow_images/classify_command.py",
    "trainer/evaluate_command.py",
    "trainer/models_command.py",
    "trainer/train_command.py",
}
MAY_HAVE_FLAGS = COMMAND_MODULES | {
    "k8s/images/build.py",
    "k8s/images/checkout.py",  # git's
    "k8s/images/engine.py",  # docker's and its like
    "k8s/deploy/submit.py",  # writes a command line for a pod
    "beam_jobs/beam_flags.py",  # is about Beam's own
    "serving/console/flags_in_messages.py",  # is about flags
    "serving/console/grouped_help.py",  # so is this
    "serving/console/option_flags.py",  # makes them
    # State each option, its flag and its help included.
    "beam_jobs/predict_options.py",
    "serving/console/option_fields.py",
    "serving/client/client_options.py",
    "serving/network/retry.py",
    "trainer/evaluate_options.py",
    "trainer/train_options.py",
    "serving/page/charts.py",  # names variables of CSS
}
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*(?![\w…])")
"""One of ours: Beam's own have underscores."""
NO_FIELDS = {"edit", "spawn", "train"}
"""A role of Kubernetes, a way of Python's to start processes, and a command."""
FIELD = re.compile(r"`([a-z]\w*(?:\.\w+)*)`", re.ASCII)


def _texts() -> Iterator[tuple[str, ast.Constant, bool]]:
    """Path, string literal, and whether it is a docstring; serving.server has tensorflow_model_server's own flags."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            if name in MAY_HAVE_FLAGS or name.startswith("serving/server/"):
                continue
            nodes = list(ast.walk(ast.parse(path.read_text())))
            docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
            for node in nodes:
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield name, node, id(node) in docstrings


def test_only_commands_speak_of_flags() -> None:
    found = [f"{name}:{text.lineno}: {flag}" for name, text, _ in _texts() for flag in FLAG.findall(str(text.value))]
    assert found == []


def test_each_field_in_a_message_is_a_flag_of_a_command() -> None:
    """A message with a field that no command knows would show its user a name that can't be given.

    What `flow_images` itself raises is for callers from Python.
    """
    commands = click.Group(commands={name: _command(command) for name, command in COMMANDS.items()})
    texts = [
        str(text.value)
        for name, text, is_docstring in _texts()
        if not (is_docstring or name.startswith("flow_images/"))
    ]
    fields = {field for text in texts for field in FIELD.findall(text)} - NO_FIELDS
    assert len(fields) > 20
    assert {field for field in fields if with_flags(f"`{field}`", commands) == f"`{field}`"} == set()


def _command(command: Command) -> click.Command:
    found = getattr(importlib.import_module(command.module), command.name)
    assert isinstance(found, click.Command)
    return found
