"""What the command refuses before it asks anybody, and what it never repeats."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from beam_jobs.predict_command import merge, predict
from serving.errors import UsageError
from tests.beam_jobs.conftest import COUNT
from tests.beam_jobs.model_server import NAME, ModelServer, image

NOBODY = ["--server", "127.0.0.1:1", "--model-name", "x"]


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ([*NOBODY, "--fresh", "--shard", "0/2"], "each shard would clear the others' work"),
        ([*NOBODY, "--shard", "2/2"], "I from 0 to N-1"),
    ],
    ids=["fresh-shard", "shard"],
)
def test_wrong_usage_says_what_to_do(tmp_path: object, flags: list[str], says: str) -> None:
    found = CliRunner().invoke(predict, ["--input", str(tmp_path), "--output", f"{tmp_path}/out", *flags])
    assert isinstance(found.exception, UsageError)
    assert says in str(found.exception)


def test_a_runner_elsewhere_needs_a_server_that_it_can_reach(tmp_path: Path) -> None:
    (tmp_path / "m" / "1").mkdir(parents=True)
    (tmp_path / "m" / "1" / "saved_model.pb").touch()
    words = ["--input", str(tmp_path), "--output", f"{tmp_path}/out", "--model", f"{tmp_path}/m"]
    found = CliRunner().invoke(predict, [*words, "--", "--runner=PortableRunner", "--job_endpoint=localhost:1"])
    assert isinstance(found.exception, UsageError)
    assert "`model` starts its server on this machine" in str(found.exception)


@pytest.mark.parametrize("command", [[predict, "--input", "x", *NOBODY], [merge]], ids=["predict", "merge"])
@pytest.mark.parametrize("flags", [["--s3_secret_acess_key=hunter2"], ["--s3_secret_access_key", "-hunter2"]])
def test_a_wrong_flag_of_beam_does_not_tell_its_secret(
    tmp_path: object, command: list[Any], flags: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    words = [*command[1:], "--output", f"{tmp_path}/out", "--", *flags]
    found = CliRunner().invoke(command[0], words)
    assert isinstance(found.exception, UsageError)
    assert "unter2" not in str(found.exception) + found.output + "".join(capfd.readouterr())


def test_a_command_whose_run_is_complete_says_so_first(model: ModelServer, images: Path, tmp_path: Path) -> None:
    words = ["--input", str(images), "--output", f"{tmp_path}/out", "--server", model.address, "--model-name", NAME]
    first = CliRunner().invoke(predict, words)
    assert first.exit_code == 0, first.output
    assert first.stdout.startswith(f"{COUNT} listed = {COUNT} predicted")
    (images / "new.png").write_bytes(image(1))
    again = CliRunner().invoke(predict, words)
    assert again.exit_code == 0, again.output
    lines = again.stdout.splitlines()
    assert lines[0].startswith("complete since ")
    assert "1 image more in the inputs. --fresh predicts all images again" in lines[1]
    account, model_and_speed, *found = first.stdout.splitlines()
    assert lines[-len(found) - 2 :] == [account, model_and_speed.partition(":")[0], *found]
