"""Beam's Dask runner, with what it leaves out in Beam 2.77.

Of `apache_beam.runners.dask.dask_runner.DaskRunner`: a pipeline with several ends runs only the last of them, what a
DoFn gives in `finish_bundle` is lost, each output of a DoFn with several gets all elements, windows and timestamps are
dropped at each step, and a side input is computed again in each partition. None of it is an error there. So this runner
keeps Beam's replacements of transforms and its options, and translates them itself. What it can't translate is refused.
"""

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import apache_beam as beam
import cloudpickle
import dask.bag
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.pipeline import AppliedPTransform, PipelineVisitor
from apache_beam.pvalue import AsSideInput, PBegin, PValue
from apache_beam.runners.common import DoFnContext, DoFnInvoker, DoFnSignature, Receiver, _OutputHandler
from apache_beam.runners.dask import dask_runner as beams
from apache_beam.runners.dask.overrides import _Create, _Flatten, _GroupByKeyOnly, _Reshuffle, dask_overrides
from apache_beam.transforms.sideinputs import SideInputMap
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.windowed_value import WindowedValue
from dask.delayed import delayed
from dask.distributed import Client
from dask.typing import no_default
from typing_extensions import override

_LOG = logging.getLogger(__name__)


class DaskRunner(beams.DaskRunner):
    """Runs a bounded pipeline on a Dask cluster.

        with beam.Pipeline(runner=DaskRunner(Client("tcp://scheduler:8786"))) as pipeline:

    It knows `Create`, DoFns (`Map`, `Filter`, side inputs, several outputs, windows), `GroupByKey`, `Flatten` and
    `Reshuffle`; no metrics, no state, no timers. A bundle is a partition of `Create`; the bundles of a
    worker that dies are done again by others.
    """

    def __init__(self, client: Client | None = None, *, partition_size: int | None = None) -> None:
        """Connects to nothing yet.

        Args:
          client: of the cluster; None for the one that the pipeline's options `--dask_…` name.
          partition_size: elements of a `Create` in a bundle, where the options don't say; None for Beam's own choice.
        """
        super().__init__()
        self._client = client
        self._partition_size = partition_size

    @override
    def run_pipeline(self, pipeline: beam.Pipeline, options: PipelineOptions) -> beams.DaskRunnerResult:
        """Starts all the pipeline's ends.

        Raises:
          NotImplementedError: it has a transform that the runner does not know.
        """
        partitions, connection = split_options(options)
        if not partitions and self._partition_size:
            partitions = {"partition_size": self._partition_size}
        pipeline.replace_all(dask_overrides())
        translation = _Translation(partitions)
        pipeline.visit(translation)
        client = self._client or Client(**connection)
        return _Result(client, client.compute(translation.ends()))


class _Result(beams.DaskRunnerResult):
    """A pipeline under way, on a client that need not be the process's default one."""

    @override
    def wait_until_finish(self, duration: int | None = None) -> str:
        with self.client.as_current():
            return super().wait_until_finish(duration)


def split_options(options: PipelineOptions) -> tuple[dict[str, Any], dict[str, Any]]:
    """Beam's options for Dask: how elements are cut into partitions, and how a `Client` is made."""
    given = options.view_as(beams.DaskOptions).get_all_options(drop_default=True, current_only=True)
    partitions = {name: given.pop(name) for name in ("npartitions", "partition_size") if name in given}
    return partitions, {name: value for name, value in given.items() if value is not no_default}


class _Translation(PipelineVisitor):
    """The bags of a pipeline's transforms: their elements are `_Tagged`."""

    def __init__(self, partitions: Mapping[str, int]) -> None:
        self._partitions = partitions
        self._bags: dict[AppliedPTransform, dask.bag.Bag] = {}
        self._used: set[AppliedPTransform] = set()

    def ends(self) -> list[dask.bag.Bag]:
        """What computes all: the number of elements of each bag that no other transform takes."""
        return [bag.count() for step, bag in self._bags.items() if step not in self._used]

    @override
    def visit_transform(self, step: AppliedPTransform) -> None:
        self._bags[step] = self._translate(step)

    def _translate(self, step: AppliedPTransform) -> dask.bag.Bag:
        transform = step.transform
        if isinstance(transform, _Create):
            values = [_in_global_window(value) for value in transform.values]
            return dask.bag.from_sequence(values, **(self._partitions or _usual_partitions(values)))
        inputs = [self._output(value) for value in step.inputs if not isinstance(value, PBegin)]
        if isinstance(transform, beam.ParDo):
            return self._par_do(step, inputs[0])
        if isinstance(transform, _GroupByKeyOnly):
            return inputs[0].groupby(_key).map(_grouped)
        if isinstance(transform, _Flatten):
            return dask.bag.concat(inputs)
        if isinstance(transform, _Reshuffle):
            return inputs[0]
        raise NotImplementedError(f"{step.full_label}: the Dask runner does not know {type(transform).__name__}")

    def _output(self, value: PValue) -> dask.bag.Bag:
        """The elements of one output of the step that makes them."""
        self._used.add(value.producer)
        return self._bags[value.producer].map_partitions(_with_tag, value.tag)

    def _par_do(self, step: AppliedPTransform, elements: dask.bag.Bag) -> dask.bag.Bag:
        signature = DoFnSignature(step.transform.fn)
        if signature.is_stateful_dofn() or signature.is_splittable_dofn():
            raise NotImplementedError(f"{step.full_label}: the Dask runner has no state, timers or splittable DoFns")
        args, kwargs = step.transform.raw_side_inputs
        main_input = next(iter(step.main_inputs.values()))
        called = _DoFn(step.transform.fn, step.full_label, main_input.windowing.windowfn, list(args), dict(kwargs))
        # A value of its own, which each worker gets once, and not a part of the task of each partition.
        do_fn = delayed(bytes)(cloudpickle.dumps(called))
        views = [(type(side), side._view_options()) for side in step.side_inputs]
        sides = [_whole(self._output(side.pvalue)) for side in step.side_inputs]
        return elements.map_partitions(_run_bundle, do_fn, views, *sides)


def _usual_partitions(values: Sequence[object]) -> dict[str, int]:
    """The size that Beam's runner takes where nobody says one."""
    return {"partition_size": max(128, int(len(values) ** 0.5 / 10))}


class _Tagged(NamedTuple):
    """An element, and the output of a DoFn that it is in; None is the main one."""

    tag: str | None
    element: WindowedValue


def _in_global_window(value: object) -> _Tagged:
    return _Tagged(None, GlobalWindows.windowed_value(value))


def _with_tag(found: Sequence[_Tagged], tag: str | None) -> list[_Tagged]:
    return [_Tagged(None, one.element) for one in found if one.tag == tag]


def _whole(bag: dask.bag.Bag) -> Any:
    """All elements of a side input as one value, which is computed once."""
    return delayed(_concatenated)(bag.to_delayed())


def _concatenated(partitions: Sequence[Sequence[_Tagged]]) -> list[WindowedValue]:
    return [one.element for partition in partitions for one in partition]


def _key(one: _Tagged) -> Any:
    return one.element.value[0]


def _grouped(group: tuple[Any, Sequence[_Tagged]]) -> _Tagged:
    """A key with its values, each in its window: Beam's next step groups by window."""
    key, found = group
    return _in_global_window((key, [one.element.value[1] for one in found]))


class _DoFn(NamedTuple):
    """A DoFn with what it is called with."""

    function: beam.DoFn
    label: str
    window_fn: Any
    args: list[Any]
    kwargs: dict[str, Any]


class _Output(Receiver):
    """Keeps what a DoFn puts into one output."""

    def __init__(self, tag: str | None, kept: list[_Tagged]) -> None:
        self._tag = tag
        self._kept = kept

    def receive(self, windowed_value: WindowedValue) -> None:
        self._kept.append(_Tagged(self._tag, windowed_value))


class _Outputs(dict[str | None, _Output]):
    """The outputs by tag, in one list."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[_Tagged] = []

    def __missing__(self, tag: str | None) -> _Output:
        self[tag] = _Output(tag, self.kept)
        return self[tag]


def _run_bundle(
    bundle: Sequence[_Tagged],
    do_fn: bytes,
    views: Sequence[tuple[type[AsSideInput], dict[str, Any]]],
    *sides: Sequence[WindowedValue],
) -> list[_Tagged]:
    """Runs a DoFn on a partition, from setup to teardown."""
    function, label, window_fn, args, kwargs = cloudpickle.loads(do_fn)
    outputs = _Outputs()
    invoker = DoFnInvoker.create_invoker(
        DoFnSignature(function),
        _OutputHandler(
            window_fn=window_fn,
            main_receivers=outputs[None],
            tagged_receivers=outputs,
            per_element_output_counter=None,
            output_batch_converter=None,
            process_yields_batches=False,
            process_batch_yields_elements=False,
        ),
        context=DoFnContext(label, state=None),
        side_inputs=[SideInputMap(view, options, side) for (view, options), side in zip(views, sides, strict=True)],
        input_args=args,
        input_kwargs=kwargs,
        user_state_context=None,
        bundle_finalizer_param=beam.DoFn.BundleFinalizerParam(),
    )
    with _unchained_errors(), _set_up(invoker):
        invoker.invoke_start_bundle()
        for one in bundle:
            invoker.invoke_process(one.element)
        invoker.invoke_finish_bundle()
    return outputs.kept


@contextlib.contextmanager
def _unchained_errors() -> Iterator[None]:
    """Takes the causes from an error, and logs them here.

    Dask makes a text of an error that can't be unpickled with all its causes, such as gRPC's, and its class is lost.
    """
    try:
        yield
    except Exception as error:
        if error.__cause__ or error.__context__:
            _LOG.warning("%s", type(error).__name__, exc_info=True)
            error.__cause__ = error.__context__ = None
        raise


@contextlib.contextmanager
def _set_up(invoker: DoFnInvoker) -> Iterator[None]:
    invoker.invoke_setup()
    try:
        yield
    finally:
        invoker.invoke_teardown()
