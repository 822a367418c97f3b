"""What a thread of a Dask worker may take of its process's memory."""

from dask.distributed import get_worker

from beam_jobs.memory import Allowance

_PART = 0.7
"""The share of the worker's own limit: from 0.8 on Dask gives it nothing more to do, and at 0.95 it is killed."""


def threads_share(allowance: Allowance) -> Allowance:
    """The allowance of one thread; to be called on a worker.

    Its limit is the worker's own where that is less.
    """
    worker = get_worker()
    limit = worker.memory_manager.memory_limit
    return allowance._replace(sharers=worker.state.nthreads, ceiling=int(limit * _PART) if limit else None)
