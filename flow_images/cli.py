"""The command `flow-images`: mounts the packages' commands and turns their errors into a line and an exit code.

Each command's module is imported when it is used, so that `--help` answers at once.
"""

import os
import sys

# `python -m` and an empty entry of PYTHONPATH put the working directory on the import path, where a user's `random.py`
# would be taken for Python's own. It stays only if it is the folder of this very program.
try:
    _HERE, _OURS = os.getcwd(), os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
    sys.path[:] = [path for path in sys.path if os.path.realpath(path) != _HERE or _HERE == _OURS]
except FileNotFoundError:  # it was deleted, so there is nothing in it
    pass

import atexit
import difflib
import gc
import importlib
import io
import logging
from typing import NamedTuple, NoReturn

import click

from serving.console.grouped_help import GroupOfCommands


class Command(NamedTuple):
    """Where a command is, what it does, and the extras of the distribution that bring what it imports."""

    module: str
    name: str
    help: str
    extras: str


COMMANDS = {
    "train": Command(
        "trainer.train_command",
        "train",
        "Fine-tune a TensorFlow Hub model on labelled images and export it.",
        "trainer",
    ),
    "evaluate": Command(
        "trainer.evaluate_command", "evaluate", "Measure a published or served model on labelled images.", "trainer"
    ),
    "models": Command(
        "trainer.models_command", "models", "Show which models are published, how made, and how good.", "trainer"
    ),
    "serve": Command(
        "serving.server.run.serve_command", "serve", "Serve a model store over TensorFlow Serving's API.", "serve"
    ),
    "predict": Command(
        "beam_jobs.predict_command",
        "predict",
        "Predict a folder or bucket of images into one CSV.",
        "predict",
    ),
    "merge": Command(
        "beam_jobs.predict_command", "merge", "Write the results of a sharded run from its parts.", "predict"
    ),
    "report": Command(
        "beam_jobs.report.report_command", "report", "Write a page about a complete run: report.html.", "report"
    ),
    "sort": Command(
        "beam_jobs.sort.sort_command", "sort", "Put a run's images into a folder for each label.", "predict"
    ),
    "check": Command(
        "beam_jobs.check.check_command", "check", "Recount the files of a run, and say the first wrong row.", "predict"
    ),
    "classify": Command("flow_images.classify_command", "classify", "Show the top classes of a few images.", "serve"),
    "demo": Command("flow_images.demo", "demo", "Run the whole main job on images that are drawn for it.", "all"),
    "deploy": Command("k8s.deploy.deploy_command", "deploy", "Train, serve and predict on Kubernetes.", "k8s"),
}


class _Commands(GroupOfCommands):
    """The group of commands; it loads only the module of the one that runs."""

    running: click.Command | None = None
    """The one that runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        wanted = COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(wanted.module), wanted.name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"There are {', '.join(COMMANDS)}."
            ctx.fail(f"No such command {args[0]!r}. {hint}")
        name, self.running, rest = super().resolve_command(ctx, args)
        return name, self.running, rest

    def summary(self, ctx: click.Context, name: str) -> str:
        return COMMANDS[name].help


_SECTIONS = {
    "Models": ("train", "evaluate", "models", "serve"),
    "Images": ("predict", "merge", "report", "sort", "check", "classify"),
    "From a first try to a cluster": ("demo", "deploy"),
}


@click.group(
    cls=_Commands,
    sections=_SECTIONS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(package_name="flow-images")
def cli() -> None:
    """Predict a bucket of images with a TensorFlow Hub model, every image accounted for."""


def main() -> NoReturn:
    """Runs the command and ends the process with its exit code, which `serving.errors` lists.

    An error of ours becomes one line on stderr; wrong arguments end it with 2, as click does.
    """
    _restart_in_utf8()
    atexit.register(gc.freeze)  # the process ends then, and Python would look through all that was imported for garbage
    # TensorFlow's and gRPC's start-up messages are not for users; a value that is set already is respected. What gRPC
    # logs as an error is raised as one, too.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from serving.console.streams import open_streams
    from serving.console.terminal import say
    from serving.errors import EXIT_USAGE, FlowImagesError

    open_streams()
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[_Messages()])
    try:
        code = cli.main(standalone_mode=False, prog_name="flow-images")
    except click.ClickException as error:
        shown = io.StringIO()
        error.show(shown)  # which may quote what was typed
        say(shown.getvalue().rstrip("\n"), err=True)
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("flow-images: interrupted", err=True)
        sys.exit(130)
    except ModuleNotFoundError as error:
        command = next((COMMANDS[word] for word in sys.argv[1:] if word in COMMANDS), None)
        if command is None:
            raise
        missing = str(error.name).partition(".")[0]
        encoded = missing == "tensorflow" and command.name in {"predict", "classify"}
        click.echo(
            f"flow-images {command.name}: {missing} is not installed: "
            f"pip install 'flow-images[{command.extras}]'" + (", or take --wire encoded" if encoded else ""),
            err=True,
        )
        sys.exit(EXIT_USAGE)
    except FlowImagesError as error:
        say(f"flow-images {' '.join(sys.argv[1:2])}: {_shown(error)}", err=True)
        sys.exit(error.exit_code)
    sys.exit(code if isinstance(code, int) else 0)  # click hands the code of its Exit back in this mode


class _Messages(logging.Handler):
    """Writes log records as lines to the current `sys.stderr`, which a progress bar may have replaced."""

    def emit(self, record: logging.LogRecord) -> None:
        # Not by click, which looks through the stream that the bar has put there.
        from serving.console.terminal import fitted

        print(fitted(f"flow-images: {_shown(self.format(record))}", sys.stderr), file=sys.stderr, flush=True)


def _shown(message: object) -> str:
    """A message of the library for the terminal: the fields that it names are flags of the command there."""
    from serving.console.flags_in_messages import with_flags
    from serving.console.terminal import paragraph

    return paragraph(with_flags(str(message), cli.running))


def _restart_in_utf8() -> None:
    """Starts the program again in Python's UTF-8 mode where a locale has another encoding.

    Names of files and texts of users are UTF-8 whatever the locale; read as Latin-1 they would name other files.
    """
    if sys.getfilesystemencoding() == "utf-8":
        return
    os.environ["PYTHONUTF8"] = "1"  # for the processes that this one starts
    os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])
