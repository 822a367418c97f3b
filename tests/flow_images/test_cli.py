"""The command `flow-images` as a process: help at hand, one line for a user's mistake, and its exit codes."""

import importlib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from beam_jobs.beam_flags import parse_beam_flags
from flow_images.cli import COMMANDS, cli
from serving.console.grouped_help import GroupedCommand
from serving.errors import FlowImagesError
from tests.terminal import on_terminal

HEAVIEST = ("tensorflow", "apache_beam", "tf_keras", "sklearn", "kubernetes")
ROOT = Path(__file__).resolve().parents[2]


def flow_images(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flow_images", *map(str, words)]
    wide = os.environ | {"COLUMNS": "300"} | environment  # so that tables fold nothing
    return subprocess.run(command, cwd=ROOT, env=wide, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str) -> None:
    done = flow_images(command, "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"Usage: flow-images {command} ")


def test_the_commands_are_listed_without_being_loaded() -> None:
    done = flow_images("--help")
    assert done.returncode == 0
    assert [name for name in COMMANDS if f"\n  {name} " in done.stdout] == list(COMMANDS)


def commands() -> Iterator[tuple[str, GroupedCommand]]:
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        below: dict[str, click.Command | None] = {name: command}
        if isinstance(command, click.Group):
            below = {f"{name} {each}": one for each, one in command.commands.items()}
        for whole, one in below.items():
            assert isinstance(one, GroupedCommand), whole
            yield whole, one


EXAMPLES = [
    pytest.param(name, command, example, id=f"{name} {place}")
    for name, command in commands()
    for place, example in enumerate(command.examples)
]


@pytest.mark.parametrize(("name", "command", "example"), EXAMPLES)
def test_the_examples_of_the_help_are_commands(name: str, command: click.Command, example: str) -> None:
    words = shlex.split(re.split(r" [|>] ", example)[0].replace("\\\n", " "))  # without what the shell does
    start = ["flow-images", *name.split()]
    assert words[: len(start)] == start
    context = command.make_context(name, words[len(start) :])  # which parses them, and raises where it can't
    parse_beam_flags(context.params.get("beam_flags", ()))


def test_every_command_has_an_example() -> None:
    assert {param.values[0] for param in EXAMPLES} == {name for name, _ in commands()}


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        pytest.param(["prdict"], 2, "No such command 'prdict'. Did you mean 'predict'?", id="unknown command"),
        pytest.param(["xyz"], 2, "There are train, evaluate, models, serve, predict, merge", id="no such command"),
        pytest.param([], 2, "Usage: flow-images", id="nothing"),
        pytest.param(["predict", "--inptu", "x"], 2, "--input", id="unknown flag"),
        pytest.param(["predict"], 2, "Missing option '--input'", id="missing flag"),
        pytest.param(["classify", "x.jpg"], 2, "give either --server HOST:PORT, or --model", id="no server"),
        pytest.param(["classify", "x.jpg", "--model", "/nowhere"], 2, "--model /nowhere: no such folder", id="model"),
        pytest.param(
            ["classify", "x.jpg", "--server", "localhost", "--model-name", "m"], 2, "expected HOST:PORT", id="address"
        ),
        pytest.param(["demo", "--images", "x"], 2, "--images needs --labels", id="demo"),
        pytest.param(["merge", "--output", "/nowhere/out"], 2, "--output /nowhere/out: no run in it", id="merge"),
    ],
)
def test_a_mistake_is_one_line_and_no_traceback(words: list[str], code: int, says: str) -> None:
    done = flow_images(*words)
    assert done.returncode == code
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_a_mistake_is_told_in_whole_words_on_a_terminal() -> None:
    words = ["classify", "x.jpg", "--model", "/nowhere/models/dogs-and-cats-of-the-world"]
    code, screen, _ = on_terminal(60, *words)
    assert code == 2
    piped = flow_images(*words).stderr
    assert len(screen) > 1
    assert [word for line in screen for word in line.split()] == piped.split()
    assert piped.count("\n") == 1


def test_fields_in_errors_and_in_the_log_are_the_commands_flags() -> None:
    program = """
import logging, sys
import click
from flow_images import cli
from serving.errors import UsageError

@click.command()
@click.option("--tls-ca")
def merge(tls_ca):
    logging.getLogger("any").warning("`tls.ca` x.pem is old")
    raise UsageError("`tls.ca` x.pem: it is for `fresh`")

cli.COMMANDS["merge"] = cli.Command("__main__", "merge", "", "")
sys.argv = ["flow-images", "merge"]
cli.main()
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "flow-images: --tls-ca x.pem is old",
        "flow-images merge: --tls-ca x.pem: it is for `fresh`",
    ]


SERVER = ["--server", "127.0.0.1:1", "--model-name", "m"]


@pytest.mark.parametrize(
    ("command", "flag", "values"),
    [
        ("classify", "--deadline", ["inf", "1e10", "nan", "0", "-1", "1e400"]),
        ("classify", "--patience", ["inf", "nan", "1e18", "-1"]),
        ("classify", "--model-version", [str(2**63), "-1", "1.5"]),
        ("classify", "--top-k", ["0", str(10**30)]),
        ("classify", "--max-image-bytes", ["0", str(10**30)]),
        ("predict", "--max-rejected", ["nan", "-1", "150%", "1e400", "٣", "²", "1_0", "%", str(10**30)]),
        ("predict", "--max-failed", ["inf", "-1%"]),
        ("predict", "--shard", ["0/0", "1/99999999999", "²/3", "٣/4", "1", "2/2"]),
        ("predict", "--readers", ["0", str(10**30)]),
        ("predict", "--batch-size", ["0", str(10**30)]),
        ("predict", "--requests-in-flight", ["0", str(10**30)]),
        ("predict", "--max-image-pixels", ["0", str(10**30)]),
        ("serve", "--grace-s", ["nan", "inf", "-1"]),
        ("serve", "--port", ["-1", "65536"]),
    ],
)
def test_numbers_out_of_range_are_refused(command: str, flag: str, values: list[str], tmp_path: Path) -> None:
    others = {
        "classify": ["x.jpg", *SERVER],
        "predict": ["--input", str(tmp_path), "--output", str(tmp_path / "out"), *SERVER],
        "serve": ["--model-base-path", str(tmp_path)],
    }[command]
    module, name = COMMANDS[command].module, COMMANDS[command].name
    for value in values:
        found = CliRunner().invoke(getattr(importlib.import_module(module), name), [*others, flag, value])
        code = found.exception.exit_code if isinstance(found.exception, FlowImagesError) else found.exit_code
        assert code == 2, f"{flag} {value}: {found.output} {found.exception}"
        field = flag.removeprefix("--").replace("-", "_")
        assert flag in found.output or f"`{field}`" in str(found.exception)


PREDICT = ["predict", "--input", "{here}/photos", "--output", "{here}/out", "--server", "h:1", "--model-name", "m"]
TRAIN = ["train", "--folder", "{here}/photos", "--model-store", "{here}/models", "--name", "dogs"]
EVALUATE = ["evaluate", "--folder", "{here}/photos", "--output", "{here}/out", "--server", "h:1", "--model-name", "m"]
CLASSIFY = ["classify", "x.jpg", "--server", "h:1", "--model-name", "m"]
SERVE = ["serve", "--model-base-path", "{here}/dogs", "--port", "0"]
NO_SUCH = "no such file"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([*PREDICT, "--inptu", "x"], "No such option '--inptu'"),
        ([*PREDICT, "--batch-size", "0"], "--batch-size"),
        ([*PREDICT, "--input", "{here}/fotos"], "--input {here}/fotos: no such file or folder"),
        ([*PREDICT, "--input", "{here}/photos/*.gif"], "--input {here}/photos/*.gif matches no image"),
        ([*PREDICT, "--input", "{here}/list.csv"], "--input {here}/list.csv: no such file or folder"),
        ([*PREDICT, "--input", "{here}/of-none.txt"], "--input {here}/of-none.txt"),
        ([*PREDICT, "--output", "{here}/file/out"], "--output {here}/file/out can't be used"),
        ([*PREDICT, "--labels", "{here}/none.txt"], f"--labels {{here}}/none.txt: {NO_SUCH}"),
        ([*PREDICT, "--model", "{here}"], "give either --server HOST:PORT, or --model"),
        ([*PREDICT, "--fresh", "--shard", "0/2"], "--fresh with --shard"),
        ([*PREDICT, "--tls-ca", "{here}/ca.pem"], f"--tls-ca {{here}}/ca.pem: {NO_SUCH}"),
        ([*PREDICT, "more.jpg"], "unexpected argument 'more.jpg'"),
        (["merge", "--output", "{here}/none"], "--output {here}/none: no run in it"),
        ([*TRAIN, "--lbels", "x"], "No such option '--lbels'"),
        ([*TRAIN, "--epochs", "0"], "--epochs"),
        ([*TRAIN, "--folder", "{here}/fotos"], "--folder {here}/fotos: no such folder"),
        ([*TRAIN, "--labels", "{here}/labels.csv"], "give --labels or --folder, not both"),
        ([*TRAIN, "--model-store", "{here}/file/models"], "--model-store {here}/file/models can't be used"),
        ([*TRAIN, "--report", "{here}/file/report"], "--report {here}/file/report can't be used"),
        ([*TRAIN, "--work-folder", "{here}/file/work"], "--work-folder {here}/file/work can't be used"),
        ([*TRAIN, "--groups", "{here}/none.csv"], "--groups {here}/none.csv: no such file"),
        ([*TRAIN, "--hub-model", "{here}/hub"], "--hub-model {here}/hub: no such SavedModel"),
        ([*TRAIN, "--train-batch-norm"], "--train-batch-norm does nothing without --fine-tune"),
        ([*TRAIN[:1], "--labels", "{here}/none.csv", *TRAIN[3:]], f"--labels {{here}}/none.csv: {NO_SUCH}"),
        ([*EVALUATE, "--seed", "-1"], "--seed"),
        ([*EVALUATE, "--folder", "{here}/fotos"], "--folder {here}/fotos: no such folder"),
        ([*EVALUATE, "--output", "{here}/file/out"], "--output {here}/file/out can't be used"),
        ([*EVALUATE, "--class-names", "{here}/none.txt"], f"--class-names {{here}}/none.txt: {NO_SUCH}"),
        (["models", "list", "{here}/none"], "{here}/none: no such folder"),
        (["models", "show", "{here}/none"], "{here}/none: no such folder"),
        (["models", "show", "{here}/none/1"], "{here}/none: no such folder"),
        ([*EVALUATE, "--images", "{here}/photos"], "--images goes with --labels"),
        ([*EVALUATE, "--model", "{here}"], "give either --server HOST:PORT, or --model"),
        ([*CLASSIFY, "--top-k", "0"], "--top-k"),
        ([*CLASSIFY, "--labels", "{here}/none.txt"], f"--labels {{here}}/none.txt: {NO_SUCH}"),
        ([*CLASSIFY, "--model", "{here}"], "give either --server HOST:PORT, or --model"),
        ([*SERVE, "--port", "65536"], "--port"),
        ([*SERVE, "--model-base-path", "{here}/none"], "{here}/none: no such folder"),
        ([*SERVE, "--ssl-config-file", "{here}/none"], "--ssl-config-file: {here}/none; No such file"),
        (["deploy", "train", "--manifests", "{here}"], "no kustomization.yaml in {here}"),
        (["deploy", "predict", "--shards", "0"], "--shards"),
        (["deploy", "predict", "--inptu", "x"], "No such option '--inptu'"),
    ],
)
def test_a_mistake_is_told_before_anything_heavy_is_loaded(words: list[str], says: str, tmp_path: Path) -> None:
    """Beam's own flags apart, which only Beam can judge."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "x.jpg").touch()
    (tmp_path / "file").touch()
    (tmp_path / "of-none.txt").write_text("none.jpg\n")
    (tmp_path / "dogs" / "1").mkdir(parents=True)
    (tmp_path / "dogs" / "1" / "saved_model.pb").touch()
    given = [word.format(here=tmp_path) for word in words]
    script = f"""
import atexit, sys
atexit.register(lambda: print([name for name in {HEAVIEST} if name in sys.modules]))
sys.argv[1:] = {given}
from flow_images.cli import main
main()
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert says.format(here=tmp_path) in done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("output", "says"),
    [("", "--output is empty"), ("file", "Not a directory"), ("file/out", "Not a directory")],
)
def test_an_output_that_cannot_be_is_refused_before_a_server_is_waited_for(
    output: str, says: str, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    done = flow_images("predict", "--input", tmp_path, "--output", output and tmp_path / output, *SERVER)
    assert done.returncode == 2
    assert says in done.stderr


@pytest.mark.parametrize(
    ("variables", "words", "says"),
    [
        ({"FLOW_IMAGES_SERVER": "http://a:1"}, ["--model-name", "m"], "set by FLOW_IMAGES_SERVER in the environment"),
        ({"FLOW_IMAGES_SERVER": ""}, ["--model-name", "m"], "give either --server HOST:PORT, or --model"),
        ({"FLOW_IMAGES_SERVER": "a:1"}, ["--model", "/nowhere"], "FLOW_IMAGES_SERVER is left alone"),
        ({"FLOW_IMAGES_TLS": "1", "FLOW_IMAGES_TLS_CA": "x"}, ["--model", "/nowhere"], "/nowhere: no such folder"),
        ({"FLOW_IMAGES_SERVER": "a:1"}, ["--server", "b:1", "--model", "/nowhere"], "give either"),
        ({"FLOW_IMAGES_TLS": "maybe"}, SERVER, "FLOW_IMAGES_TLS"),
        ({"FLOW_IMAGES_TLS_CA": "/none.pem"}, SERVER, "set by FLOW_IMAGES_TLS_CA in the environment"),
        ({"FLOW_IMAGES_TLS_CERT": "/none.pem"}, SERVER, "FLOW_IMAGES_TLS_CERT"),
        ({"FLOW_IMAGES_TOKEN": "a\nb"}, [*SERVER, "--tls"], "FLOW_IMAGES_TOKEN has characters that can't be sent"),
    ],
)
def test_the_environment_is_named_where_it_is_to_blame(variables: dict[str, str], words: list[str], says: str) -> None:
    done = flow_images("classify", "x.jpg", *words, **variables)
    assert done.returncode == 2, done.stderr
    assert says in done.stderr


def test_pem_files_that_are_none_are_refused_before_anybody_is_asked(tmp_path: Path) -> None:
    (tmp_path / "x.pem").write_text("garbage")
    done = flow_images("classify", "x.jpg", *SERVER, "--tls-ca", tmp_path / "x.pem")
    assert done.returncode == 2
    assert f"--tls-ca {tmp_path}/x.pem: no certificate in PEM form" in done.stderr


@pytest.mark.parametrize("place", ["store", "file", "saved model", "other digits"])
def test_a_model_s_folder_is_asked_for_in_words(place: str, tmp_path: Path) -> None:
    for version in ("dogs/1", "dogs/plain", "dogs/²"):
        (tmp_path / version).mkdir(parents=True)
        (tmp_path / version / "saved_model.pb").touch()
    model, says = {
        "store": (tmp_path, f"do you mean {tmp_path}/dogs?"),
        "file": (tmp_path / "dogs/1/saved_model.pb", "a file; give a model folder"),
        "saved model": (tmp_path / "dogs/plain", f"move it to {tmp_path}/dogs/plain/1"),
        "other digits": (tmp_path / "dogs/²", "a folder that is named by its version"),
    }[place]
    done = flow_images("classify", "x.jpg", "--model", model)
    assert done.returncode == 2
    assert says in done.stderr


def test_serve_names_the_models_where_the_store_was_given(tmp_path: Path) -> None:
    (tmp_path / "dogs" / "1").mkdir(parents=True)
    (tmp_path / "dogs" / "1" / "saved_model.pb").touch()
    done = flow_images("serve", "--model-base-path", tmp_path)
    assert done.returncode == 2
    assert f"do you mean {tmp_path}/dogs?" in done.stderr


@pytest.mark.parametrize(
    ("words", "module", "extra"),
    [
        (
            ["predict", "--input", "x", "--output", "o", "--server", "h:1", "--model-name", "m"],
            "apache_beam",
            "predict",
        ),
        (["demo"], "tensorflow", "all"),
        (["deploy", "status"], "kubernetes", "k8s"),
    ],
)
def test_a_part_that_is_not_installed_is_named(words: list[str], module: str, extra: str, tmp_path: Path) -> None:
    absent = f"import sys; sys.modules[{module!r}] = None; sys.argv[1:] = {words}"
    script = f"{absent}; import flow_images.cli; flow_images.cli.main()"
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)},
                          capture_output=True, text=True, timeout=300, check=False)  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert f"flow-images {words[0]}: {module} is not installed: pip install 'flow-images[{extra}" in done.stderr
    assert "Traceback" not in done.stderr


def test_names_are_utf8_whatever_the_locale() -> None:
    foreign = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    command = [sys.executable, "-m", "flow_images", "merge", "--output", "/nowhere/é"]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | foreign, capture_output=True, timeout=300, check=False)
    assert "--output /nowhere/é: no run in it" in done.stderr.decode()


def test_a_server_that_is_away_is_resumable(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    done = flow_images("predict", "--input", tmp_path, "--output", tmp_path / "out", "--server", "127.0.0.1:1",
                       "--model-name", "m", "--patience", 0)  # fmt: skip
    assert done.returncode == 75
    assert "the same command continues" in done.stderr
    assert "Traceback" not in done.stderr


def test_classify_shows_each_image_or_its_reason(model_store: Path, drawn: Path, tmp_path: Path) -> None:
    image = sorted((drawn / "train").iterdir())[0]
    (tmp_path / "page.jpg").write_text("<html>")
    done = flow_images("classify", image, tmp_path / "page.jpg", "--model", model_store, "--top-k", 2)
    assert done.returncode == 1, done.stderr
    assert str(image) in done.stdout
    assert "the bytes are not an image, but an HTML page" in done.stdout


def test_the_demonstration_trains_serves_and_predicts(tmp_path: Path) -> None:
    done = flow_images("demo", "--output", tmp_path, "--epochs", 8)
    assert done.returncode == 0, done.stderr
    assert "they stand in for Kaggle's photos" in done.stdout
    assert "it stands in for a TF Hub URL" in done.stdout
    assert "WARNING" not in done.stderr  # its golden images tell every slip of preprocessing
    assert "30 listed = 30 predicted + 0 rejected + 0 failed" in done.stdout
    assert f"report: {tmp_path}/models/demo/" in done.stdout
    accuracy = float(done.stdout.rpartition("accuracy ")[2].split()[0])
    assert accuracy > 0.4  # of 6 classes: 0.17 by chance


@pytest.mark.parametrize(
    "words", [["predict", "--\x1b[31mred"], ["\x1b]0;title\x07"], ["merge", "--output", "\x1b[2J"]]
)
def test_what_was_typed_is_shown_without_control_codes(words: list[str]) -> None:
    command = [sys.executable, "-m", "flow_images", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "\x1b" not in done.stderr
    assert "\\x1b" in done.stderr
