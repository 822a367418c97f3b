"""The prediction job from options to results: agree on a plan, run the chunks, merge the parts."""

import contextlib
import dataclasses
import datetime
import functools
import shutil
import tempfile
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import Any

from beam_jobs import interrupt
from beam_jobs import results as results_
from beam_jobs.chunk_predictor import ChunkOptions
from beam_jobs.inputs import list_pictures
from beam_jobs.manifest import Manifest, build_manifest
from beam_jobs.options import PredictOptions, Throughput
from beam_jobs.plan import Plan, PlannedModel, ResultOptions, RunFolder
from beam_jobs.remaining import RemainingWork, count_generations, remaining_retries, remaining_work
from beam_jobs.results import Account, RunLog
from beam_jobs.source_check import SourceCheck
from beam_jobs.sources import is_utf8
from beam_jobs.worker import WorkerSpec, version_gone
from serving.class_names import read_labels
from serving.client import PredictClient
from serving.discovery import choose_wire, discover
from serving.errors import ModelNotFound, UsageError
from serving.images.sample_images import check_model_by_samples
from serving.options import Endpoint, RetryPolicy
from serving.predictor import ImagePredictor
from serving.retry import Retrier
from serving.storage.base import absolute, join, output_errors
from serving.storage.retrying import RetryingStorage, retrying_storage

Connect = Callable[[int | None], contextlib.AbstractContextManager[Endpoint]]
"""Gives the endpoint to ask, told the version of the run that goes on, if one does; called only if there is something
to ask, as it may start a server."""
Started = Callable[[Plan, int], None]
"""Told the plan and the number of rows to do, when the first picture is about to be read."""


def run(options: PredictOptions, connect: Connect, started: Started) -> Account | None:
    """Runs, continues or completes a prediction job.

    Returns:
      The account, or None where other shards still have chunks to do.
    Raises:
      UsageError: wrong input, or options that would mix results with those in `output`; nothing was sent.
      ContractError: the server does not keep the model's contract; nothing was predicted.
      FlowImagesError: the run stopped; its `exit_code` tells whether the same command continues it.
    """
    from beam_jobs.pipeline import beam_options  # Beam takes seconds to import

    pipeline_options = beam_options(options.beam_flags)
    with output_errors(options.output):
        return _run(options, connect, started, pipeline_options)


def _run(options: PredictOptions, connect: Connect, started: Started, pipeline_options: Any) -> Account | None:
    from beam_jobs.pipeline import run_pipeline

    storage = _storage(options.beam_flags, options.retry)
    folder = RunFolder(storage(options.output), options.output)
    plan = None if options.fresh else folder.load_plan()
    if plan:
        plan.check(ResultOptions.of(options, options.wire or plan.options.wire), _asked(options, plan), options.output)
        parts = folder.parts(plan)
        if not options.retry_failed and not results_.missing_chunks(plan, parts):
            return _merge(folder, plan, options.record())
        todo = remaining_work(plan, parts).share(*options.shard)
        SourceCheck(plan, folder, parts, storage).before_reading(list(todo.rows))
    with connect(plan.model.version if plan else None) as endpoint:
        plan, endpoint = _agree(options, folder, endpoint, plan, storage)
        parts = folder.parts(plan)
        steps = [functools.partial(remaining_work, plan, parts)]
        if options.retry_failed:
            steps.append(functools.partial(remaining_retries, plan, parts))
        for find in steps:
            todo = find().share(*options.shard)
            if todo.generation and todo.rows:
                folder.storage.delete(join(folder.output, results_.RUN))  # until the retried rows are merged
            started(plan, sum(todo.rows.values()))
            run_pipeline(_worker_spec(options, plan, endpoint, todo), list(todo.rows), pipeline_options)
    if options.shard.of > 1 and results_.missing_chunks(plan, parts):
        return None
    return _merge(folder, plan, options.record())


def merge_folder(output: str, beam_flags: Sequence[str] = ()) -> Account:
    """Writes the results of a run from its parts alone; no server is asked.

    Raises:
      UsageError: there is no run.
      Incomplete: chunks are not done yet.
    """
    folder = RunFolder(_storage(beam_flags, RetryPolicy())(output), output)
    with output_errors(output):
        plan = folder.load_plan()
        if plan is None:
            next(folder.storage.walk(folder.state), None)  # a bucket that isn't there is told by a listing only
            raise UsageError(f"--output {output}: no run in it (no {folder.state})")
        return _merge(folder, plan, {"merged": True})


def _storage(beam_flags: Sequence[str], policy: RetryPolicy) -> Callable[[str], RetryingStorage]:
    patiently = Retrier(policy, interrupt.STOP)
    return lambda path: retrying_storage(path, beam_flags, policy, patiently)


def _merge(folder: RunFolder, plan: Plan, options: dict[str, Any]) -> Account:
    parts = folder.parts(plan)
    log = RunLog(plan.options.model_dump(mode="json") | options, library_versions())
    return results_.merge(folder, plan, parts, count_generations(parts), log)


def library_versions() -> dict[str, str]:
    """Versions of the libraries that results depend on, for the record."""
    found = {}
    for name in ("flow-images", "apache-beam", "grpcio", "numpy", "pillow", "protobuf", "tensorflow"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _agree(
    options: PredictOptions,
    folder: RunFolder,
    endpoint: Endpoint,
    plan: Plan | None,
    storage: Callable[[str], RetryingStorage],
) -> tuple[Plan, Endpoint]:
    """The run's plan, made or adopted, and the endpoint with its version pinned, found to keep the contract."""
    asked = endpoint
    if plan is None or endpoint.version is None:
        version = plan.model.version if plan else _available(endpoint, options)
        endpoint = dataclasses.replace(endpoint, version=version)
    with _client(endpoint, options) as client:
        try:
            contract = discover(client, options.overrides)
            wire = choose_wire(contract, options.wire or (plan.options.wire if plan else None))
            model = PlannedModel(name=endpoint.model_name, version=endpoint.version or 0, contract=contract)
            result_options = ResultOptions.of(options, wire)
            if plan is not None:
                plan.check(result_options, model, options.output)
            predictor = ImagePredictor(client, contract, wire)
            if contract.golden is None or wire not in contract.golden.references:
                check_model_by_samples(predictor, options.overrides, distributions=options.format == "kaggle")
            else:
                predictor.check_golden()
        except ModelNotFound as error:
            raise version_gone(endpoint, error) from error
    if plan is not None:
        return plan, endpoint
    plan = folder.adopt_plan(_first_plan(options, folder, result_options, model, storage))
    if plan.model.version != model.version and asked.version is None:
        # Another process was first, before a version was published.
        return _agree(options, folder, asked, plan, storage)
    plan.check(result_options, model, options.output)
    return plan, endpoint


def _asked(options: PredictOptions, plan: Plan) -> PlannedModel:
    """The plan's model with the name, version and labels of the flags."""
    name, version = options.asked or (plan.model.name, None)
    contract, labels = plan.model.contract, options.overrides.labels
    if labels is not None and contract.golden is None:
        contract = contract.model_copy(update={"labels": read_labels(labels)})
    return PlannedModel(name=name, version=plan.model.version if version is None else version, contract=contract)


def _available(endpoint: Endpoint, options: PredictOptions) -> int:
    with _client(endpoint, options) as client:
        return client.available_version()


def _client(endpoint: Endpoint, options: PredictOptions) -> PredictClient:
    client = PredictClient(endpoint, retry=options.retry, stop=interrupt.STOP)
    interrupt.at_stop(client.close)
    return client


def _first_plan(
    options: PredictOptions,
    folder: RunFolder,
    result_options: ResultOptions,
    model: PlannedModel,
    storage: Callable[[str], RetryingStorage],
) -> Plan:
    started, base = datetime.datetime.now(datetime.UTC), absolute(".")
    if not is_utf8(base):
        raise UsageError(f"the name of the working directory {base!r} is not UTF-8: rename it, or go to another")
    results = [join(options.output, name) for name in results_.RESULTS]
    pictures = list_pictures(options.inputs, leave_out=[folder.state, *results], storage=storage)
    with tempfile.TemporaryFile() as file:
        manifest = build_manifest(
            pictures, file, batch_size=options.batch_size, shards=options.shard.of,
            unique_ids=options.format == "kaggle",
            scores=min(result_options.top_k or len(model.contract.labels), len(model.contract.labels)),
        )  # fmt: skip
        if options.fresh:  # only now, when a new run is sure to start
            folder.clear(results)
        _store_manifest(folder, manifest, file)
    return Plan(
        started=started, options=result_options, model=model, manifest=manifest, base=base,
        sources=pictures.sources, left_out=dict(pictures.left_out),
    )  # fmt: skip


def _store_manifest(folder: RunFolder, manifest: Manifest, file: Any) -> None:
    file.seek(0)
    with folder.storage.replacing(folder.manifest_path(manifest)) as stored:
        shutil.copyfileobj(file, stored)


def _worker_spec(options: PredictOptions, plan: Plan, endpoint: Endpoint, todo: RemainingWork) -> WorkerSpec:
    wire = plan.options.wire
    to_blame = wire == "encoded" and plan.model.contract.signature(wire).ok is None
    sizes = dataclasses.asdict(options.part(Throughput))
    chunk = ChunkOptions(**sizes, top_k=plan.options.top_k, decoded_by_server=to_blame)
    return WorkerSpec(
        output=absolute(options.output), plan=plan, endpoint=endpoint, retry=options.retry, chunk=chunk,
        memory=options.memory, generation=todo.generation, beam_flags=options.beam_flags,
    )  # fmt: skip
