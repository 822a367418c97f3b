"""Threads of a Dask worker share the memory of its process, and stay below the worker's own limit."""

from dask.distributed import Client, LocalCluster

from beam_jobs.dask.worker_memory import threads_share
from beam_jobs.memory import MIB, Allowance, divide


def test_the_workers_limit_and_its_threads_count() -> None:
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=3, processes=False, memory_limit=1000 * MIB, dashboard_address=":0"
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        usual = client.submit(threads_share, Allowance()).result()
        given = client.submit(threads_share, Allowance(given=300 * MIB)).result()
    assert (usual.limit, usual.sharers) == (700 * MIB, 3)
    assert (given.limit, given.sharers) == (300 * MIB, 3)


def test_each_of_three_gets_a_third_of_what_is_free() -> None:
    alone = divide(Allowance(given=1000 * MIB), 100 * MIB, readers=8, decoded_bytes=None)
    shared = divide(Allowance(given=1000 * MIB, sharers=3), 100 * MIB, readers=8, decoded_bytes=None)
    assert abs(alone.reading - 3 * shared.reading) < MIB
