"""Fields in messages become the running command's flags, and only those that it has."""

import click
import pytest

from serving.console.flags_in_messages import with_flags


@click.command()
@click.option("--batch-size", type=int)
@click.option("--tls", is_flag=True)
@click.option("--tls-ca")
@click.option("--deadline", "deadline_s")
@click.option("--input", "-i", "inputs", multiple=True)
@click.argument("labels")
def command(**_: object) -> None:
    """Is never called."""


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        pytest.param("smaller `batch_size`, not 7", "smaller --batch-size, not 7", id="words"),
        pytest.param("add `tls`; see `tls.ca` /a.pem", "add --tls; see --tls-ca /a.pem", id="field of a field"),
        pytest.param("`deadline_s` and `inputs`", "--deadline and --input", id="name of the argument"),
        pytest.param("`deadline` and `input`", "--deadline and --input", id="name of the flag"),
        pytest.param("`fresh`, `labels` and `tls.none`", "`fresh`, `labels` and `tls.none`", id="no such flag"),
        pytest.param("`flow-images train` and `Tls`", "`flow-images train` and `Tls`", id="no field"),
        pytest.param("batch_size, `tls", "batch_size, `tls", id="no backticks"),
    ],
)
def test_fields_are_shown_as_flags(message: str, shown: str) -> None:
    assert with_flags(message, command) == shown


def test_the_commands_of_a_group_count() -> None:
    group = click.Group(commands={"one": command}, params=[click.Option(["--namespace"])])
    assert with_flags("`namespace` and `batch_size`", group) == "--namespace and --batch-size"


def test_the_running_command_is_taken_where_none_is_named() -> None:
    with click.Context(command):
        assert with_flags("`batch_size`") == "--batch-size"
    assert with_flags("`batch_size`") == "`batch_size`"
