"""One prediction run: resume or plan it, predict what is left, merge the parts.

Nothing here prints or handles signals, so a program may run it as well as the command does.
"""

import contextlib
import dataclasses
import importlib
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from beam_jobs import results, stop_request
from beam_jobs.beam_flags import flag_names, parse_beam_flags, runs_here
from beam_jobs.beam_logging import own_logging
from beam_jobs.chunk_predictor import ChunkOptions
from beam_jobs.chunk_size import chunk_rows
from beam_jobs.finished import Finished, News, last_finished
from beam_jobs.fresh_links import Links, keep_links
from beam_jobs.image_lists import is_list, read_list
from beam_jobs.listing import check_inputs, list_images
from beam_jobs.listing_ahead import ListingAhead, listing_ahead
from beam_jobs.part_watch import watching_parts
from beam_jobs.plan import OutputForms, Plan, PlannedModel, ResultOptions, RunFolder
from beam_jobs.predict_options import OutputOptions, PredictOptions, Throughput
from beam_jobs.progress import Progress, listening
from beam_jobs.rate_limit import close_unused
from beam_jobs.remaining_work import RemainingWork, changed_files, missing_chunks, remaining_retries, remaining_work
from beam_jobs.results import Account
from beam_jobs.source_outage import SourceCheck
from beam_jobs.stop_request import StopRequest
from beam_jobs.storage_flags import storage_options
from beam_jobs.worker import WorkerSpec, version_gone
from serving.client.answer_check import check_answers
from serving.client.client_options import Endpoint
from serving.client.discovery import discover
from serving.client.image_calls import ImagePredictor
from serving.client.predict_client import PredictClient
from serving.client.server_choice import Cancellable
from serving.client.wire_choice import ChosenWire, choose
from serving.errors import FlowImagesError, ModelNotFound, UsageError
from serving.images.limits import ImageLimits
from serving.images.wire import WireOrAuto
from serving.network.retry import RetryPolicy
from serving.process.quick_import import no_collection
from serving.process.temporary_files import check_temporary_files
from serving.storage.base import absolute, is_web, join, output_errors
from serving.storage.disk import check_can_write
from serving.storage.storage_options import StorageOptions
from serving.storage.stores import Stores
from serving.text.label_file import read_class_names
from serving.text.utf8_files import is_utf8

_LOG = logging.getLogger(__name__)

Connect = Callable[[int | None, Cancellable], contextlib.AbstractContextManager[Endpoint]]
"""Gives the endpoint to ask while a block runs. It is given the run's model version, if a run is resumed, and lets the
run break off a server's start. It is called only if there is something to ask, as it may start a server."""


class Run:
    """One prediction run in one output folder. `execute` does all that is left of it, from the first call or any later.

    Several may follow one another in a process, or run at once in threads of their own.
    """

    def __init__(
        self,
        options: PredictOptions,
        connect: Connect,
        *,
        storage: StorageOptions | None = None,
        progress: Progress | None = None,
        newest: Callable[[], int | None] = lambda: None,
    ) -> None:
        """Asks and reads nothing yet.

        Args:
          options: all that the user decides.
          connect: gives the endpoint to ask.
          storage: how stores of images and results are reached; None for what Beam's flags and the environment say.
          progress: is told how it goes on.
          newest: gives the newest version of the model, if that is known without asking a server.

        Raises:
          UsageError: Beam's flags are wrong.
        """
        if options.beam_flags:
            parse_beam_flags(options.beam_flags)
        self._options = options
        self._connect = connect
        self._progress = progress or Progress()
        self._newest = newest
        self._storage = storage or storage_options(options.beam_flags)
        self._stores = Stores(self._storage, options.retry, stop_request.STOP)
        self._folder = RunFolder(self._stores.writable(options.output), options.output)

    def execute(self) -> Account | None:
        """Resumes the run in the output folder or plans a new one, predicts what has no outcome yet, and merges.

        Returns:
          The account, or None where other shards still have chunks to do.

        Raises:
          UsageError: wrong input, or options that would mix results with those in the folder; nothing was sent.
          ContractError: the server does not keep the model's contract; nothing was predicted.
          FlowImagesError: the run stopped; its `exit_code` tells whether the same call continues it.
        """
        with stop_request.run_in_progress(), output_errors(self._options.output):
            plan = self._resume()
            if plan is None or self._has_work(plan):
                check_output(self._options.output)
                plan = self._predict(plan)
            elif finished := self._find_finished(plan):
                self._progress.complete(self._news(plan, finished))
                return self._conclude(finished)
            if self._options.shard.of > 1 and self._missing_chunks(plan):
                return None
            if finished := self._find_finished(plan):  # by another shard, or there was nothing to retry
                return self._conclude(finished)
            return self._conclude(self._merge(plan))

    def _find_finished(self, plan: Plan) -> Finished | None:
        """What was written of a run that is complete, if that is as it is wanted now."""
        finished = results.find_finished(self._folder, plan)
        is_wanted = finished is None or self._forms(plan, finished) == results.forms_of(plan, finished)
        return finished if is_wanted else None

    def _forms(self, plan: Plan, finished: Finished | None) -> OutputForms:
        return results.forms_of(plan, finished).with_given(self._options.part(OutputOptions), self._kept_top_k(plan))

    def _kept_top_k(self, plan: Plan) -> int | None:
        """The labels to show of each image, where it keeps all scores; else it shows those that it keeps."""
        return self._options.top_k if plan.options.top_k == 0 else None

    def _conclude(self, finished: Finished) -> Account:
        self._progress.finished(finished.run)
        return Account.of(finished)

    def _news(self, plan: Plan, finished: Finished) -> News:
        once = Stores(
            self._storage, RetryPolicy(patience_s=0), stop_request.STOP
        )  # who only asks doesn't wait for a store
        return News(self._folder, plan, finished, own=self._own_files, stores=once, newest=self._newest)

    @property
    def _own_files(self) -> list[str]:
        """What the run writes, which is never input."""
        return [self._folder.state, *(join(self._options.output, name) for name in (*results.RESULTS, results.REPORT))]

    def _resume(self) -> Plan | None:
        """The plan of the run that is in the folder; None for a new run."""
        options = self._options
        plan = None if options.fresh else self._folder.load_plan()
        if plan:
            wire = plan.options.wire if options.wire == "auto" else options.wire
            plan.check(ResultOptions.of(options, wire, plan.options), self._wanted_model(plan), options.output)
        return plan

    def _wanted_model(self, plan: Plan) -> PlannedModel:
        """The plan's model with the name, version and labels that the user gives now."""
        name, version = self._options.asked or (plan.model.name, None)
        contract, labels = plan.model.contract, self._options.overrides.labels
        if labels is not None and contract.golden is None:
            contract = contract.model_copy(update={"labels": read_class_names(labels)})
        return PlannedModel(name=name, version=plan.model.version if version is None else version, contract=contract)

    def _has_work(self, plan: Plan) -> bool:
        return self._options.retry_failed or bool(self._missing_chunks(plan))

    def _missing_chunks(self, plan: Plan) -> list[int]:
        return missing_chunks(plan, self._folder.parts(plan))

    def _predict(self, plan: Plan | None) -> Plan:
        """Predicts what is left of the run, which is planned first if it is new."""
        if plan:
            self._folder.links = self._fresh_links(plan)
            self._check_sources(plan)
        else:
            check_inputs(self._options.inputs, self._stores, self._options.images)
        options = self._options
        self._progress.begin(f"starting the server of {options.model}" if options.model else f"asking {options.server}")
        with contextlib.ExitStack() as server:
            plan, endpoint = self._go_on(plan, server) if plan else self._begin(server)
            with listening(plan.id, self._progress.done):
                if (work := remaining_work(plan, self._folder.parts(plan))).rows:
                    self._predict_chunks(plan, endpoint, work)
                if self._options.retry_failed and not self._missing_chunks(plan):
                    find_changed = changed_files(self._folder, plan, self._stores)
                    retries = remaining_retries(plan, self._folder.parts(plan), find_changed)
                    self._predict_chunks(plan, endpoint, retries)
        return plan

    def _fresh_links(self, plan: Plan) -> Links | None:
        """The links to the run's images that the inputs have now, where they are signed anew."""
        if not any(is_web(source.folder) for source in plan.sources):
            return None
        chunks = (self._folder.read_chunk(plan, chunk) for chunk in range(plan.manifest.chunks))
        try:
            return keep_links(self._links_now(), chunks, self._folder.storage, self._folder.state)
        except (UsageError, FileNotFoundError, PermissionError) as error:
            _LOG.warning("links stay those that the run began with: %s", error)
            return None

    def _links_now(self) -> Iterator[str]:
        for given in self._options.inputs:
            if is_list(given):
                named = read_list(self._stores(given).read(given), given, lambda path: True, self._options.images)
                yield from (one.path for one in named)
            elif is_web(given):
                yield given

    def _check_sources(self, plan: Plan) -> None:
        """Checks that the images are still where they were, before a server is asked or started."""
        parts = self._folder.parts(plan)
        chunks = remaining_work(plan, parts).share(*self._options.shard).chunks
        SourceCheck(plan, self._folder, parts, self._stores).before_reading(chunks)

    def _go_on(self, plan: Plan, stack: contextlib.ExitStack) -> tuple[Plan, Endpoint]:
        """The plan, and the endpoint that serves its model until the stack is closed."""
        server = stack.enter_context(self._connect(plan.model.version, stop_request.closed_on_stop))
        return plan, self._join(plan, server)

    def _begin(self, stack: contextlib.ExitStack) -> tuple[Plan, Endpoint]:
        """Plans a new run with the model version that is served now; or joins another process's run.

        Returns:
          The plan, and the endpoint with its version pinned, which serves until the stack is closed.
        """
        with self._list_ahead() as listing:
            server = stack.enter_context(self._connect(None, listing.stop.closing))
            with self._client(server, listing.stop) as client:
                endpoint = dataclasses.replace(server, version=client.available_version())
            with self._client(endpoint, listing.stop) as client:
                model, wire = self._served_model(client, self._options.wire)
                self._check_answers(client, model, wire)
            ours = self._make_plan(listing, model, ResultOptions.of(self._options, wire.wire))
        plan = self._folder.adopt_plan(ours)
        return plan, endpoint if plan.id == ours.id else self._join(plan, server)

    def _join(self, plan: Plan, server: Endpoint) -> Endpoint:
        """The endpoint with the plan's version pinned, after checking that it serves the plan's model."""
        endpoint = server
        if server.version is None:
            endpoint = dataclasses.replace(server, version=plan.model.version)
        with self._client(endpoint) as client:
            kept = plan.options.wire if self._options.wire == "auto" else self._options.wire
            model, wire = self._served_model(client, kept)
            plan.check(ResultOptions.of(self._options, wire.wire, plan.options), model, self._options.output)
            self._check_answers(client, model, wire)
        return endpoint

    @contextlib.contextmanager
    def _client(self, endpoint: Endpoint, stop: StopRequest = stop_request.OF_RUNS) -> Iterator[PredictClient]:
        """A client that a stop closes."""
        client = PredictClient(endpoint, retry=self._options.retry, stop=stop.made)
        with client, stop.closing(client.close):
            yield client

    def _served_model(self, client: PredictClient, wire: WireOrAuto) -> tuple[PlannedModel, ChosenWire]:
        """The model as the server describes it, and the wire form to use."""
        with _version_needed(client.endpoint):
            contract = discover(client, self._options.overrides)
        endpoint = client.endpoint
        model = PlannedModel(name=endpoint.model_name, version=endpoint.version or 0, contract=contract)
        return model, choose(contract, wire, endpoint.address, self._options.part(ImageLimits))

    def _check_answers(self, client: PredictClient, model: PlannedModel, wire: ChosenWire) -> None:
        golden = model.contract.golden
        reason = f", wire {wire.wire}: {wire.why}" if wire.why else ""
        self._progress.begin((f"checking {golden.count} golden images" if golden else "checking the model") + reason)
        predictor = ImagePredictor(client, model.contract, wire.wire, embeddings=self._options.embeddings)
        with _version_needed(client.endpoint):
            check_answers(predictor, self._options.overrides, distributions=self._is_for_kaggle)

    @property
    def _is_for_kaggle(self) -> bool:
        return "kaggle" in (self._options.format or ())

    def _list_ahead(self) -> contextlib.AbstractContextManager[ListingAhead]:
        """Lists the inputs while a block runs."""
        options, base = self._options, absolute(".")
        if not is_utf8(base):
            raise UsageError(f"the name of the working directory {base!r} is not UTF-8: rename it, or go to another")
        images = list_images(options.inputs, leave_out=self._own_files, stores=self._stores, images=options.images)
        return listing_ahead(images, unique_ids=self._is_for_kaggle, base=base)

    def _make_plan(self, listing: ListingAhead, model: PlannedModel, result_options: ResultOptions) -> Plan:
        """Stores the manifest of what is listed; the plan that goes with it is not stored yet."""
        options, folder = self._options, self._folder
        self._progress.begin("listing the images")
        images = listing.wait()
        classes = len(model.contract.labels)
        scores = min(result_options.top_k or classes, classes)
        manifest = images.cut(
            chunk_rows(images.listed, batch_size=options.batch_size, shards=options.shard.of, scores=scores)
        )
        if options.fresh:  # not before it is certain that a new run begins
            folder.clear([join(options.output, name) for name in results.RESULTS])
        folder.store_manifest(manifest, images.file)
        return Plan(
            started=listing.began,
            options=result_options,
            model=model,
            manifest=manifest,
            base=listing.base,
            sources=listing.images.sources,
            recorded=self._recorded_options(),
            forms=self._first_forms(model),
            left_out=dict(listing.images.left_out),
        )

    def _first_forms(self, model: PlannedModel) -> OutputForms:
        usual = OutputForms(threshold=model.contract.threshold or 0.0)
        return usual.with_given(self._options.part(OutputOptions), self._options.top_k)

    def _predict_chunks(self, plan: Plan, endpoint: Endpoint, work: RemainingWork) -> None:
        """Writes the part of each chunk of this shard's share."""
        import_beam()
        from beam_jobs.pipeline import run_pipeline

        stop_request.raise_if_stopped()
        share = work.share(*self._options.shard)
        if share.rows:  # until they are merged, results that are there are not complete
            self._folder.storage.delete(join(self._folder.output, results.RUN))
            with contextlib.suppress(OSError, FlowImagesError):  # a page is no reason to stop
                self._folder.storage.delete(join(self._folder.output, results.REPORT))
        done = plan.manifest.listed - share.row_count if self._options.shard.of == 1 else 0
        self._progress.start(plan, share.row_count, done)
        spec = self._worker_spec(plan, endpoint, share.generation)
        flags = parse_beam_flags(self._options.beam_flags)
        elsewhere = () if runs_here(flags) else share.chunks
        try:
            with watching_parts(plan.id, self._folder.parts(plan), share.generation, elsewhere):
                run_pipeline(spec, share.chunks, flags)
        except BaseException:
            with contextlib.suppress(Exception):  # where the output is away, that is what the user is to know
                missing = sum(map(plan.manifest.rows_in, self._missing_chunks(plan)))
                self._progress.stopped(plan.manifest.listed - missing, plan.manifest.listed)
            raise
        finally:
            close_unused(self._folder.workers_folder(plan))

    def _worker_spec(self, plan: Plan, endpoint: Endpoint, generation: int) -> WorkerSpec:
        options = self._options
        return WorkerSpec(
            output=absolute(options.output),
            plan=plan,
            endpoint=endpoint,
            retry=options.retry,
            chunk=ChunkOptions(
                **dataclasses.asdict(options.part(Throughput)),
                top_k=plan.options.top_k,
                embeddings=plan.options.embeddings,
                facts=plan.options.columns,
            ),
            memory=options.memory,
            generation=generation,
            max_rate=options.max_rate,
            storage=self._storage,
            links=self._folder.links,
        )

    def _merge(self, plan: Plan) -> Finished:
        self._progress.begin("writing the results")
        finished = last_finished(self._folder, plan)
        return results.merge(self._folder, plan, self._recorded_options(), self._forms(plan, finished))

    def _recorded_options(self) -> dict[str, Any]:
        """What run.json says besides the plan's options."""
        # Beam's flags without values, which may be secrets.
        return self._options.record() | {"beam_flags": flag_names(self._options.beam_flags)}


def import_beam() -> None:
    """Imports what runs a pipeline, which takes seconds."""
    with no_collection(), own_logging():
        importlib.import_module("beam_jobs.pipeline")


def check_output(output: str) -> None:
    """Refuses what no run could write to, before a server is waited for.

    Raises:
      UsageError, DiskFull: the folder can't be written to, or there is no place for temporary files.
    """
    if not output.strip():
        raise UsageError("`output` is empty: give a folder")
    check_temporary_files()
    if "://" not in output:
        check_can_write(output, "output")


def merge_folder(output: str, beam_flags: Sequence[str] = (), given: OutputOptions | None = None) -> Finished:
    """Writes the results of a run from its parts alone; no server is asked.

    Args:
      output: the run's folder.
      beam_flags: how buckets are reached.
      given: what the files of predictions look like; where it says nothing, they are as they were.

    Raises:
      UsageError: there is no run in the folder, or Kaggle's form is wanted of a run that keeps a few scores only.
      Incomplete: chunks are not done yet.
    """
    stores = Stores(storage_options(beam_flags), stop=stop_request.STOP)
    folder = RunFolder(stores.writable(output), output)
    with output_errors(output):
        plan = folder.load_plan()
        if plan is None:
            next(folder.storage.walk(folder.state), None)  # only a listing tells that a bucket isn't there
            raise UsageError(f"`output` {output}: no run in it (no {folder.state})")
        given = given or OutputOptions()
        if "kaggle" in (given.format or ()) and plan.options.format != "kaggle":
            raise UsageError(
                f"`format` kaggle needs the scores of all classes, and the run keeps {plan.options.top_k} of each: "
                "predict with that `format` into another `output`"
            )
        forms = results.forms_of(plan, last_finished(folder, plan)).with_given(given)
        return results.merge(folder, plan, {"merged": True}, forms)


@contextlib.contextmanager
def _version_needed(endpoint: Endpoint) -> Iterator[None]:
    """Turns ModelNotFound for the pinned version into VersionGone, which says what to do."""
    try:
        yield
    except ModelNotFound as error:
        raise version_gone(endpoint, error) from error
