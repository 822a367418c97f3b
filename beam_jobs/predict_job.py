"""The prediction job with its server, as the command and a program run it. Nothing here prints or handles signals."""

import contextlib
import dataclasses

from beam_jobs import stop_request
from beam_jobs.beam_flags import check_beam, parse_beam_flags, runs_here
from beam_jobs.memory import tame_allocator
from beam_jobs.predict_options import PredictOptions
from beam_jobs.progress import Progress
from beam_jobs.results import Account
from beam_jobs.run import Run, import_beam
from beam_jobs.storage_flags import storage_options
from serving.client.client_options import Endpoint
from serving.client.server_choice import Cancellable, Connection
from serving.errors import UsageError
from serving.storage.stores import Stores
from serving.text.label_file import check_class_names


def run_job(options: PredictOptions, progress: Progress | None = None) -> Account | None:
    """Runs a prediction job, with a server of its own where the options name a model folder.

    Args:
      options: all that the user decides.
      progress: is told how it goes on.

    Returns:
      The account, or None where other shards still have chunks to do.

    Raises:
      UsageError: wrong input, or options that contradict each other or what is in the output; nothing was sent.
      FlowImagesError: see `Run.execute`.
    """
    check_beam()
    tame_allocator()
    if not options.output.strip():
        raise UsageError("`output` is empty: give a folder")
    connection = Connection(options)
    if options.labels is not None:
        check_class_names(options.labels)
    if connection.embedded and options.beam_flags and not runs_here(parse_beam_flags(options.beam_flags)):
        raise UsageError(
            "`model` starts its server on this machine, where a runner's workers can't reach it: give `server`"
        )
    model_name, model_version = connection.asked
    options = dataclasses.replace(options, model_name=model_name, model_version=model_version)
    storage = storage_options(options.beam_flags)
    stores = Stores(storage, options.retry, stop_request.STOP)

    def connect(version: int | None, cancellable: Cancellable) -> contextlib.AbstractContextManager[Endpoint]:
        return connection.connect(version, meanwhile=import_beam, stores=stores, cancellable=cancellable)

    return Run(
        options,
        connect,
        storage=storage,
        progress=progress,
        newest=connection.newest_version,
    ).execute()
