"""`fi.predict`: the whole prediction job as a function."""

import contextlib
import signal
import threading
from collections.abc import Iterator

from beam_jobs import interrupt
from beam_jobs.job import run_job
from beam_jobs.options import PredictOptions
from beam_jobs.results import Account as Account
from beam_jobs.results import Incomplete
from serving.option_fields import as_keywords
from serving.tensorflow_import import check_not_forked


@as_keywords(PredictOptions)
def predict(options: PredictOptions) -> Account:
    """Predicts every image of the inputs into one CSV, and accounts for each: the command `flow-images predict`.

        account = fi.predict(inputs=["photos/"], output="out/", server="localhost:8500", model_name="dogs")
        assert account.listed == account.predicted + account.rejected + account.failed

    Its keywords are the command's flags. `inputs` and `output` are required, and either `server` with `model_name`, or
    `model`: a folder as `train` writes it, which is served for the job. The results are the same files in `output`:
    predictions.csv, rejected.csv, failed.csv and run.json. The same call continues a job that was stopped, and gives
    the account of one that is complete. Ctrl-C stops it within seconds and raises KeyboardInterrupt; what is done is
    kept. Nothing is printed.

    Args:
      options: as keywords; see the command's help.

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
    if options.wire != "encoded":
        check_not_forked()  # before a server is started
    with _stopped_by_ctrl_c():
        account = run_job(options)
    if account is None:
        raise Incomplete(f"shard {options.shard} is done, others are not yet; `{options.output}` is merged by the last")
    return account


@contextlib.contextmanager
def _stopped_by_ctrl_c() -> Iterator[None]:
    """Turns Ctrl-C into a request to stop, which ends all threads, and then into KeyboardInterrupt.

    As `asyncio.run` does, it leaves a handler of the program's own alone.
    """
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    received = threading.Event()

    def stop(number: int, frame: object) -> None:
        received.set()
        interrupt.request_stop()

    signal.signal(signal.SIGINT, stop)
    try:
        yield
    except Exception as error:
        if received.is_set():
            raise KeyboardInterrupt from error
        raise
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
