"""The command `flow-images`: mounts the packages' commands and turns their errors into a line and an exit code.

Each command's module is imported when it is used, so that `--help` answers at once.
"""

import importlib
import logging
import os
import sys
from typing import NamedTuple, NoReturn

import click


class Command(NamedTuple):
    """Where a command is, what it does, and the extras of the distribution that bring what it imports."""

    module: str
    name: str
    help: str
    extras: str


COMMANDS = {
    "train": Command(
        "trainer.cli", "train", "Fine-tune a TensorFlow Hub model on labelled pictures and export it.", "trainer"
    ),
    "serve": Command("serving.server.cli", "serve", "Serve a model store over TensorFlow Serving's API.", "serve"),
    "predict": Command(
        "beam_jobs.cli", "predict", "Predict a folder or bucket of pictures into one CSV.", "predict,preprocess"
    ),
    "merge": Command("beam_jobs.cli", "merge", "Write the results of a sharded run from its parts.", "predict"),
    "classify": Command("serving.cli", "classify", "Show the top classes of a few pictures.", "preprocess"),
    "demo": Command("flow_images_demo", "demo", "Run the whole main job on pictures that are drawn for it.", "all"),
    "deploy": Command("k8s.cli", "deploy", "Train, serve and predict on Kubernetes.", "k8s"),
}


class _Commands(click.Group):
    """Knows its commands by name and help; loads the one that is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        wanted = COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(wanted.module), wanted.name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.help) for name, command in COMMANDS.items()])


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="flow-images")
def cli() -> None:
    """Predict a bucket of pictures with a TensorFlow Hub model, every picture accounted for."""


def _use_utf8() -> None:
    """Starts the process again in Python's UTF-8 mode where the locale has another encoding: names of files, lists and
    results are UTF-8, whatever a terminal shows."""
    if sys.getfilesystemencoding() != "utf-8" and os.environ.get("PYTHONUTF8") != "1":
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def main() -> NoReturn:
    """Runs the command. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 over a limit, 75 resumable, 130 and 143
    interrupted."""
    # TensorFlow's and gRPC's start-up messages are not for users; a value that is set already is respected.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    _use_utf8()
    from serving.errors import EXIT_USAGE, FlowImagesError

    logging.basicConfig(level=logging.WARNING, format="flow-images: %(message)s")
    try:
        code = cli.main(standalone_mode=False, prog_name="flow-images")
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("flow-images: interrupted", err=True)
        sys.exit(130)
    except ModuleNotFoundError as error:
        command = next((COMMANDS[word] for word in sys.argv[1:] if word in COMMANDS), None)
        if command is None:
            raise
        encoded = error.name == "tensorflow" and command.name in {"predict", "classify"}
        click.echo(
            f"flow-images {command.name}: {error.name} is not installed: "
            f"pip install 'flow-images[{command.extras}]'" + (", or take --wire encoded" if encoded else ""),
            err=True,
        )
        sys.exit(EXIT_USAGE)
    except FlowImagesError as error:
        click.echo(f"flow-images {' '.join(sys.argv[1:2])}: {error}", err=True)
        sys.exit(error.exit_code)
    sys.exit(code if isinstance(code, int) else 0)  # click hands the code of its Exit back in this mode


if __name__ == "__main__":
    main()
