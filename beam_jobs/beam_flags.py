"""Parses Beam's own flags, the ones after `--`; refuses those that Beam would only warn of, or that lose rows.

No message shows the value of a flag, as it may be a secret. Beam is imported where it has to judge, as that takes
seconds.
"""

import contextlib
import importlib
import importlib.util
import io
import logging
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from beam_jobs.beam_logging import own_logging
from serving.errors import UsageError

if TYPE_CHECKING:
    from apache_beam.options.pipeline_options import PipelineOptions

DASK_RUNNER = "DaskRunner"
_FOR_DASK = "--dask_"
_LOCAL_RUNNERS = {None, "DirectRunner", "BundleBasedDirectRunner", "FnApiRunner", "SwitchingDirectRunner"}


def check_beam() -> None:
    """Looks whether Beam is installed, without its import.

    Raises:
      ModuleNotFoundError: it isn't.
    """
    if importlib.util.find_spec("apache_beam") is None:
        raise ModuleNotFoundError("No module named 'apache_beam'", name="apache_beam")


def parse_beam_flags(flags: Sequence[str]) -> "PipelineOptions":
    """Beam's options of its flags.

    Raises:
      UsageError: a flag that Beam does not know (it would only warn, and run elsewhere than was meant) or can't parse,
        or one that loses rows.
    """
    if flags and not flags[0].startswith("-"):
        raise UsageError(
            f"unexpected argument {flags[0]!r}: a pattern goes in quotes (`inputs` 'photos/*.jpg'), each further input "
            "behind an `inputs` of its own, and Beam's own flags behind --"
        )
    with own_logging():
        from apache_beam.options.pipeline_options import PipelineOptions

    if any(flag.startswith(_FOR_DASK) or DASK_RUNNER in flag for flag in flags):
        _import_dask_options()
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), own_logging():
            options = PipelineOptions(list(flags))
            unknown = _unknown_flags(options)
    except SystemExit as error:  # of Beam's parser; its message may show a secret
        if not error.code:
            raise
        flag = re.search(r"argument (\S+):", said.getvalue())
        raise UsageError(
            f"Beam does not understand {flag[1] if flag else 'its flags'}; write each as --flag=value"
        ) from error
    if unknown:
        raise UsageError(f"Beam does not know {' '.join(flag.split('=', 1)[0] for flag in unknown)}")
    _check_dask(options, flags)
    if options.get_all_options().get("direct_running_mode") == "multi_threading":
        raise UsageError("--direct_running_mode=multi_threading loses rows in Beam 2.77 and earlier; leave it out")
    return options


def runs_here(options: "PipelineOptions") -> bool:
    """Does this process do the work itself, and not a runner elsewhere?"""
    from apache_beam.options.pipeline_options import StandardOptions

    return options.view_as(StandardOptions).runner in _LOCAL_RUNNERS


def runs_on_dask(options: "PipelineOptions") -> bool:
    """Is the runner Beam's for Dask?"""
    from apache_beam.options.pipeline_options import StandardOptions

    return options.view_as(StandardOptions).runner == DASK_RUNNER


def _check_dask(options: "PipelineOptions", flags: Sequence[str]) -> None:
    """Names Dask's runner shortly; refuses its flags for another one, and it without the scheduler."""
    from apache_beam.options.pipeline_options import StandardOptions

    standard = options.view_as(StandardOptions)
    if standard.runner == f"apache_beam.runners.dask.dask_runner.{DASK_RUNNER}":
        standard.runner = DASK_RUNNER
    for_dask = [flag for flag in flag_names(flags) if flag.startswith(_FOR_DASK)]
    if standard.runner != DASK_RUNNER:
        if for_dask:
            raise UsageError(f"{for_dask[0]} is for --runner={DASK_RUNNER}")
    elif not {f"{_FOR_DASK}client_address", f"{_FOR_DASK}scheduler_file"} & set(for_dask):
        raise UsageError(f"--runner={DASK_RUNNER} needs the scheduler: --dask_client_address=tcp://HOST:8786")


def _import_dask_options() -> None:
    """Imports what makes Beam know its flags `--dask_…`.

    Raises:
      UsageError: Dask isn't installed.
    """
    try:
        importlib.import_module("dask.distributed")  # Beam's module can do without
        importlib.import_module("apache_beam.runners.dask.dask_runner")
    except ImportError as error:
        raise UsageError(f"{DASK_RUNNER} needs Dask: pip install 'flow-images[predict,dask]'") from error


def flag_names(flags: Sequence[str]) -> list[str]:
    """The flags without their values."""
    return [flag.split("=", 1)[0] for flag in flags if flag.startswith("-")]


class _Records(logging.Handler):
    """Keeps log records."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.kept.append(record)


def _unknown_flags(options: "PipelineOptions") -> list[str]:
    """Beam tells of unknown flags only in a log record, so that is read here."""
    logger, records = logging.getLogger("apache_beam.options.pipeline_options"), _Records()
    logger.addHandler(records)
    propagate, logger.propagate = logger.propagate, False
    try:
        options.get_all_options()
    finally:
        logger.removeHandler(records)
        logger.propagate = propagate
    discarded = [record for record in records.kept if str(record.msg).startswith("Discarding unparseable")]
    found = [str(flag) for record in discarded for flag in _arguments(record)]
    return [flag for flag in found if flag.startswith("-")] or ["one of its arguments"] * bool(found)


def _arguments(record: logging.LogRecord) -> Sequence[object]:
    args = record.args[0] if isinstance(record.args, tuple) else record.args
    return args if isinstance(args, list) else [args]
