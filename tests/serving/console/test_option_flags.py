"""Flags of the fields of options: every one reaches its field, and both refuse the same."""

from typing import Any, TypeVar

import click
import pytest
from click.testing import CliRunner, Result

from beam_jobs.predict_options import (
    MergeOptions,
    PageOptions,
    PredictOptions,
    ProgressOptions,
    RejectionLimits,
    RowLimit,
    Shard,
)
from flow_images.classify_command import ClassifyOptions
from flow_images.cli import cli
from flow_images.demo import DemoOptions
from k8s.deploy.cleanup_command import DeployCleanupOptions
from k8s.deploy.cluster_options import ClusterOptions
from k8s.deploy.predict_command import DeployPredictOptions
from k8s.deploy.rollback_command import DeployRollbackOptions
from k8s.deploy.serve_command import DeployServeOptions
from k8s.deploy.train_command import DeployTrainOptions
from serving.console.option_fields import OptionField, Options, option, option_fields, options_class
from serving.console.option_flags import option_flags
from serving.errors import UsageError
from serving.network.retry import RetryPolicy
from serving.server.run.serve_command import ServeOptions
from trainer.evaluate_options import EvaluateJob
from trainer.train_options import TrainJob

OptionsT = TypeVar("OptionsT", bound=Options)
OF_COMMANDS: dict[str, list[type[Options]]] = {
    "predict": [PredictOptions, RejectionLimits, ProgressOptions, PageOptions],
    "merge": [MergeOptions],
    "classify": [ClassifyOptions],
    "train": [TrainJob],
    "evaluate": [EvaluateJob],
    "serve": [ServeOptions],
    "deploy train": [DeployTrainOptions],
    "deploy serve": [DeployServeOptions],
    "deploy predict": [DeployPredictOptions],
    "deploy rollback": [DeployRollbackOptions],
    "deploy status": [ClusterOptions],
    "deploy suspend": [ClusterOptions],
    "deploy resume": [ClusterOptions],
    "deploy cleanup": [DeployCleanupOptions],
    "demo": [DemoOptions],
}
WITH_TEXT_OF_THEIR_OWN: dict[str, tuple[str, Any]] = {
    "image_size": ("320x240", (320, 240)),
    "max_memory": ("2GiB", 2 * 2**30),
    "shard": ("1/4", Shard(1, 4)),
    "max_rejected": ("2%", RowLimit.parse("2%")),
    "max_failed": ("20", RowLimit.parse("20")),
    **dict.fromkeys(("namespace", "name", "model_name", "job_name"), ("pets", "pets")),
}
FIELDS = [
    pytest.param(options, field, id=f"{options.__name__}.{field.name}")
    for options in dict.fromkeys(options for kinds in OF_COMMANDS.values() for options in kinds)
    for field in option_fields(options).values()
]
BOUNDED = [param for param in FIELDS if {"least", "most"} & param.values[1].details.keys()]  # type: ignore[union-attr]


def required(options: type[Options], *, but: str = "") -> list[str]:
    fields = [field for field in option_fields(options).values() if field.name != but]
    return [word for field in fields if field.is_required for word in (field.flag, str(any_value(field)))]


def any_value(field: OptionField) -> Any:
    return 7 if field.type is int else "x"


def call(options: type[OptionsT], words: list[str], **variables: str) -> tuple[Result, OptionsT | None]:
    """What a command with the flags of a class is called with."""
    given: list[OptionsT] = []
    command = click.command()(option_flags(options)(given.append))
    done = CliRunner().invoke(command, words, env=variables)
    return done, given[0] if given else None


def sample(field: OptionField) -> tuple[list[str], Any]:
    """Words of the command line, and the value that they stand for."""
    details = field.details
    if field.type is bool:
        return ([f"--no-{field.name}"], False) if field.default else ([field.flag], True)
    if field.takes_several:
        return [field.flag, ",".join(field.choices[-2:])], field.choices[-2:]
    if field.choices:
        return [field.flag, field.choices[-1]], field.choices[-1]
    if "parse" in details and field.name in WITH_TEXT_OF_THEIR_OWN:
        text, value = WITH_TEXT_OF_THEIR_OWN[field.name]
        return [field.flag, text], value
    if field.type is int:
        return [field.flag, str(int(details["least"]) + 7)], int(details["least"]) + 7
    if field.type is float:
        value = details["least"] + (details.get("most", 8) - details["least"]) / 4
        return [field.flag, str(value)], value
    if field.type is tuple:
        return [field.flag, "a", field.flag, "b"], ("a", "b")
    return [field.flag, "some text"], "some text"


@pytest.mark.parametrize("name", OF_COMMANDS)
def test_a_command_has_no_flag_that_is_stated_elsewhere(name: str) -> None:
    command: click.Command = cli
    for word in name.split():
        assert isinstance(command, click.Group)
        found = command.get_command(click.Context(command), word)
        assert found is not None
        command = found
    flags = {parameter.name: parameter.opts[-1] for parameter in command.params if isinstance(parameter, click.Option)}
    stated = [field for options in OF_COMMANDS[name] for field in option_fields(options).values()]
    assert flags == {field.name: field.flag for field in stated}


@pytest.mark.parametrize(("options", "field"), FIELDS)
def test_each_flag_reaches_its_field_and_no_other(options: type[Options], field: OptionField) -> None:
    words, value = sample(field)
    assert value != field.default
    done, given = call(options, [*required(options, but=field.name), *words])
    assert done.exit_code == 0, done.output
    _, without = call(options, required(options))
    assert given is not None
    assert without is not None
    differing = {name for name in option_fields(options) if getattr(given, name) != getattr(without, name)}
    assert (getattr(given, field.name), differing) == (value, {field.name})


@pytest.mark.parametrize(("options", "field"), FIELDS)
def test_without_a_flag_there_is_the_default(
    options: type[Options], field: OptionField, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FLOW_IMAGES_WORK_FOLDER")
    _, given = call(options, required(options))
    assert field.is_required or getattr(given, field.name) == field.default


@pytest.mark.parametrize("bound", ["least", "most"])
@pytest.mark.parametrize(("options", "field"), BOUNDED)
def test_a_bound_is_one_for_flag_and_field(options: type[Options], field: OptionField, bound: str) -> None:
    if bound not in field.details:
        return
    limit = field.details[bound]  # type: ignore[literal-required]
    beyond = limit + (1 if bound == "most" else -1)
    value: Any = (beyond, beyond) if field.type is tuple else beyond
    text = f"{beyond}x{beyond}" if field.type is tuple else str(beyond)
    with pytest.raises(UsageError, match=f"^`{field.name}` must be "):
        options(**{name: any_value(one) for name, one in option_fields(options).items() if one.is_required}
                | {field.name: value})  # fmt: skip
    done, given = call(options, [*required(options), f"{field.flag}={text}"])
    assert given is None
    assert field.flag in done.output or f"`{field.name}`" in str(done.exception)


@pytest.mark.parametrize("field", option_fields(RetryPolicy).values(), ids=lambda field: field.name)
def test_fields_without_a_flag_have_bounds_too(field: OptionField) -> None:
    with pytest.raises(UsageError, match=f"`{field.name}` must be "):
        RetryPolicy(**{field.name: -1})


@options_class
class Place(Options):
    server: str | None = option("Where.", default=None, variable="PLACE_SERVER", yields_to="folder")
    folder: str | None = option("Which.", default=None)


def test_a_variable_stands_for_its_flag_and_yields_to_a_typed_one() -> None:
    assert call(Place, [], PLACE_SERVER="a")[1] == Place(server="a")
    assert call(Place, ["--server", "b"], PLACE_SERVER="a")[1] == Place(server="b")
    done, given = call(Place, ["--folder", "f"], PLACE_SERVER="a")
    assert given == Place(folder="f")
    assert "--folder is given, so PLACE_SERVER is left alone" in done.output
    assert call(Place, ["--folder", "f", "--server", "b"], PLACE_SERVER="a")[1] == Place(folder="f", server="b")


@pytest.mark.parametrize("spelling", ["--server x is none", "`server` x is none"])
def test_an_error_about_a_flag_names_the_variable_that_set_it(spelling: str) -> None:
    @click.command()
    @option_flags(Place)
    def command(place: Place) -> None:
        raise UsageError(spelling)

    told = f"{spelling} (set by PLACE_SERVER in the environment)"
    assert str(CliRunner().invoke(command, [], env={"PLACE_SERVER": "x"}).exception) == told
    assert str(CliRunner().invoke(command, ["--server", "x"]).exception) == spelling
