"""`fi.predict`: the whole prediction job as a function."""

import logging
import signal
import threading
from collections.abc import Mapping
from concurrent.futures import Future, wait
from typing import Any

from typing_extensions import override

from beam_jobs import stop_request
from beam_jobs.parts import Verdict
from beam_jobs.plan import Plan
from beam_jobs.predict_job import run_job
from beam_jobs.predict_options import PredictOptions
from beam_jobs.progress import Progress
from beam_jobs.progress_bar import shown_progress
from beam_jobs.progress_log import Counted, Shown, faults
from beam_jobs.results import Account as Account
from beam_jobs.results import Incomplete
from flow_images.progress import Listener
from flow_images.progress import Progress as Now
from flow_images.watching import Watched
from serving.console.option_fields import as_keywords, options_class
from serving.text.utf8_files import check_file_names

_LOG = logging.getLogger(__name__)


@options_class
class PredictJob(PredictOptions, Watched):
    """The keywords of `predict`."""


@as_keywords(PredictJob)
def predict(job: PredictJob) -> Account:
    """Predicts every image of the inputs into one CSV, and accounts for each: the command `flow-images predict`.

        account = fi.predict(inputs=["photos/"], output="out/", server="localhost:8500", model_name="dogs")
        assert account.listed == account.predicted + account.rejected + account.failed

    Its keywords are the command's flags. `inputs` and `output` are required, and either `server` with `model_name`, or
    `model`: a folder as `train` writes it, which is served for the job. The results are the same files in `output`:
    predictions.csv, rejected.csv, failed.csv and run.json. The same call continues a job that was stopped, and gives
    the account of one that is complete, with warnings that say since when, and what is new since then. Ctrl-C stops it
    within seconds and raises KeyboardInterrupt; what is done is kept. Nothing is printed, but a bar in a notebook:
    `progress=True` shows one everywhere, `progress=False` nowhere, and a function is called with each `fi.Progress`. An
    error that it raises stops the job, as Ctrl-C does.

    Args:
      job: as keywords; see the command's help.

    Returns:
      The numbers of images that were listed, predicted, rejected (their own fault) and failed (the system's); and of
      those whose right label the input has, how many were predicted right. How many may be rejected is for the caller
      to decide.

    Raises:
      UsageError: wrong input, or keywords that contradict each other or the job in `output`; nothing was sent.
      ContractError: the server does not keep the model's contract; nothing was predicted.
      Resumable: the server, a bucket or the disk was away or full, or other shards have chunks left: the same call
        continues.
      FlowImagesError: the job failed; the same call would fail again.
    """
    check_file_names()
    options = job.part(PredictOptions)
    with job.shown(Shown(_warn), _Told, lambda: shown_progress(news=_warn)) as progress:
        account = (_run_interruptibly if _takes_ctrl_c() else run_job)(options, progress)
    if account is None:
        raise Incomplete(
            f"shard {options.shard} is done, but other shards are not: the last one to finish writes the results "
            f"into `{options.output}`"
        )
    return account


_STOP_WITHIN_S = 2.5
_LOOK_EVERY_S = 0.1


def _warn(line: str) -> None:
    _LOG.warning("%s", line)


class _Told(Counted):
    """Tells a function how the job goes on."""

    def __init__(self, listener: Listener) -> None:
        super().__init__(news=_warn)
        self._listener = listener

    @override
    def begin(self, step: str) -> None:
        self._listener(Now(step))

    @override
    def start(self, plan: Plan, to_do: int, done: int) -> None:
        super().start(plan, to_do, done)
        self._listener(Now("predicting", self.seen, self.total))

    @override
    def done(self, verdict: Verdict) -> None:
        super().done(verdict)
        self._listener(Now("predicting", self.seen, self.total, self.faults))

    @override
    def finished(self, run: Mapping[str, Any]) -> None:
        super().finished(run)
        self._listener(Now("complete", run["listed"], run["listed"], faults(run)))


def _takes_ctrl_c() -> bool:
    """Would Ctrl-C raise KeyboardInterrupt in this thread? A handler of the program's own is left alone."""
    in_main = threading.current_thread() is threading.main_thread()
    return in_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler


def _run_interruptibly(options: PredictOptions, progress: Progress) -> Account | None:
    """Runs the job in a thread of its own, as neither an import of TensorFlow nor a step of Beam can be interrupted.

    Ctrl-C asks the job to stop, and raises KeyboardInterrupt when it has, or in `_STOP_WITHIN_S` seconds: what then
    still runs, such as an import, ends by itself. A second Ctrl-C raises at once.
    """
    stop_request.wait_for_stopped_runs()
    outcome: Future[Account | None] = Future()

    def run() -> None:
        try:
            outcome.set_result(run_job(options, progress))
        except BaseException as error:
            outcome.set_exception(error)

    try:
        threading.Thread(target=run, name="predict", daemon=True).start()
        # Not one long wait: where another thread takes the signal, Python handles it when the main thread wakes.
        while not wait([outcome], _LOOK_EVERY_S).done:
            pass
    except KeyboardInterrupt:
        stop_request.request_stop()
        wait([outcome], _STOP_WITHIN_S)
        raise
    return outcome.result()
