"""Pipelines on the Dask runner give what Beam's own runner gives, and are refused where they would not."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.pvalue import AsList, AsSingleton, TaggedOutput
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms.userstate import CombiningValueStateSpec
from apache_beam.transforms.window import FixedWindows, GlobalWindows, TimestampedValue
from dask.distributed import Client, LocalCluster

from beam_jobs.dask.dask_runner import DaskRunner


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """Of a cluster of two workers in this process."""
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=":0") as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


@pytest.fixture
def pipeline(client: Client) -> Iterator[beam.Pipeline]:
    """A pipeline of bundles of three elements, which runs when the test's body is through."""
    with beam.Pipeline(runner=DaskRunner(client, partition_size=3)) as pipeline:
        yield pipeline


class Batched(beam.DoFn):
    """Gives a bundle's elements at its end only, even ones to an output of their own, with the bundle's size."""

    def start_bundle(self) -> None:
        self._bundle: list[int] = []

    def process(self, element: int) -> Iterable[Any]:
        self._bundle.append(element)
        return ()

    def finish_bundle(self) -> Iterator[Any]:
        for element in self._bundle:
            value = GlobalWindows.windowed_value((element, len(self._bundle)))
            yield value if element % 2 else TaggedOutput("even", value)


def test_what_a_bundle_gives_at_its_end_comes_out_in_its_output(pipeline: beam.Pipeline) -> None:
    """Also of a pipeline with two ends."""
    done = pipeline | beam.Create(range(7)) | beam.ParDo(Batched()).with_outputs("even", main="odd")
    assert_that(done.odd, equal_to([(1, 3), (3, 3), (5, 3)]), label="odd")
    assert_that(done.even, equal_to([(0, 3), (2, 3), (4, 3), (6, 1)]), label="even")


def test_a_failed_check_of_any_end_is_raised(client: Client) -> None:
    """The other tests would pass on a runner that runs nothing."""
    pipeline = beam.Pipeline(runner=DaskRunner(client))
    numbers = pipeline | beam.Create([1, 2])
    assert_that(numbers, equal_to([1, 3]), label="wrong")
    assert_that(numbers, equal_to([1, 2]), label="right")
    with pytest.raises(Exception, match="Failed assert"):
        pipeline.run().wait_until_finish()


def test_a_side_input_is_computed_once(pipeline: beam.Pipeline, tmp_path: Path) -> None:
    calls = tmp_path / "calls"

    def seven(_: object) -> int:
        with calls.open("a") as file:
            file.write("x")
        return 7

    side = pipeline | "Once" >> beam.Create([None]) | "Seven" >> beam.Map(seven)
    several = pipeline | "Several" >> beam.Create([1, 2])
    sums = (
        pipeline
        | beam.Create(range(12))
        | beam.Map(lambda n, one, more: n + one + sum(more), AsSingleton(side), more=AsList(several))
    )
    assert_that(sums, equal_to([n + 10 for n in range(12)]))
    assert_that(sums | beam.Map(lambda _: calls.read_text()) | beam.Distinct(), equal_to(["x"]), label="calls")


def test_windows_and_timestamps_stay(pipeline: beam.Pipeline) -> None:
    def stamped(element: tuple[str, int]) -> TimestampedValue:
        return TimestampedValue(element, element[1])

    grouped = (
        pipeline
        | beam.Create([("a", 1), ("b", 2), ("a", 3), ("a", 11)])
        | beam.Map(stamped)
        | beam.WindowInto(FixedWindows(10))
        | "Step" >> beam.Map(lambda pair: pair)
        | beam.GroupByKey()
        | beam.MapTuple(lambda key, values: (key, sorted(values)))
    )

    def starts(found: tuple[str, list[int]], window: Any = beam.DoFn.WindowParam) -> tuple[str, list[int], int]:
        return *found, int(window.start)

    assert_that(
        grouped | beam.Map(starts) | "Global" >> beam.WindowInto(GlobalWindows()),
        equal_to([("a", [1, 3], 0), ("b", [2], 0), ("a", [11], 10)]),
    )


def test_several_collections_become_one(pipeline: beam.Pipeline) -> None:
    one, two = pipeline | "One" >> beam.Create([1]), pipeline | "Two" >> beam.Create([2, 3])
    assert_that((one, two) | beam.Flatten() | beam.Reshuffle(), equal_to([1, 2, 3]))


_COUNT = beam.DoFn.StateParam(CombiningValueStateSpec("n", sum))


class _Counted(beam.DoFn):
    def process(self, element: Any, count: Any = _COUNT) -> None:
        count.add(1)


def test_what_the_runner_does_not_know_is_refused(client: Client) -> None:
    pipeline = beam.Pipeline(runner=DaskRunner(client))
    pipeline | beam.Create([("a", 1)]) | "Count" >> beam.ParDo(_Counted())
    with pytest.raises(NotImplementedError, match="Count: the Dask runner has no state"):
        pipeline.run()
