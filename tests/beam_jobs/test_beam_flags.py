"""Beam's own flags: refused where Beam only warns or loses rows, and never repeated with their values."""

import subprocess
import sys

import pytest
from apache_beam.options.pipeline_options import S3Options

from beam_jobs.beam_flags import flag_names, parse_beam_flags, runs_here, runs_on_dask
from serving.errors import UsageError


def test_flags_become_beams_options() -> None:
    options = parse_beam_flags(["--runner=PortableRunner", "--s3_region_name=here"])
    assert options.view_as(S3Options).s3_region_name == "here"


@pytest.mark.parametrize(
    ("flags", "here"),
    [
        ([], True),
        (["--runner=DirectRunner"], True),
        (["--runner=FnApiRunner"], True),
        (["--runner=FlinkRunner"], False),
        (["--runner=DaskRunner", "--dask_client_address=tcp://scheduler:8786"], False),
    ],
)
def test_only_beams_local_runners_run_here(flags: list[str], here: bool) -> None:
    assert runs_here(parse_beam_flags(flags)) == here


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["stray.jpg"], r"unexpected argument 'stray\.jpg': a pattern goes in quotes"),
        (["--runer=FlinkRunner"], "Beam does not know --runer$"),
        (["--direct_running_mode=multi_threading"], "loses rows"),
        (["--s3_secret_acess_key=hunter2"], "Beam does not know --s3_secret_acess_key$"),
        (["--s3_secret_acess_key", "hunter2"], "Beam does not know --s3_secret_acess_key$"),
        (["--s3_secret_access_key", "-hunter2"], "--flag=value"),
        (["--direct_num_workers=hunter2"], "does not understand --direct_num_workers"),
        (["--runner=DaskRunner", "--dask_partition_size=2"], "needs the scheduler: --dask_client_address=tcp://HOST"),
        (["--dask_client_address=hunter2"], "^--dask_client_address is for --runner=DaskRunner$"),
        (["--runner=DaskRunner", "--dask_client_adress=hunter2"], "Beam does not know --dask_client_adress$"),
    ],
)
def test_wrong_flags_are_named_without_their_values(
    flags: list[str], says: str, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(UsageError, match=says) as error:
        parse_beam_flags(flags)
    assert "unter2" not in str(error.value) + "".join(capfd.readouterr()) + caplog.text


def test_the_runner_for_dask_has_a_short_name() -> None:
    address = "--dask_client_address=tcp://scheduler:8786"
    assert runs_on_dask(parse_beam_flags(["--runner=DaskRunner", address]))
    assert runs_on_dask(parse_beam_flags(["--runner", "apache_beam.runners.dask.dask_runner.DaskRunner", address]))
    assert not runs_on_dask(parse_beam_flags([]))


def test_the_names_of_flags_have_no_values() -> None:
    assert flag_names(["--runner=X", "--key", "secret", "--on"]) == ["--runner", "--key", "--on"]


def test_a_program_still_hears_what_is_logged() -> None:
    script = (
        "import logging; from beam_jobs.beam_flags import parse_beam_flags; parse_beam_flags([]); "
        "logging.getLogger('x').warning('heard')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "heard" in done.stderr
