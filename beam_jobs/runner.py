"""Runs the pipeline over some chunks, here or with a runner elsewhere."""

import contextlib
import os
from collections.abc import Sequence

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from beam_jobs.beam_flags import runs_here
from beam_jobs.ipython import name_steps_without_interactive_runner
from beam_jobs.pipeline import PredictChunks
from beam_jobs.runner_errors import worker_errors
from beam_jobs.worker import WorkerSpec


def run_pipeline(spec: WorkerSpec, chunks: Sequence[int], options: PipelineOptions) -> None:
    """Runs until each of the chunks has its part.

    Raises:
      FlowImagesError: what stopped it, as the worker raised it.
    """
    if not chunks:
        return
    name_steps_without_interactive_runner()
    with worker_errors(), _pipeline(options) as pipeline:
        pipeline | "Chunks" >> beam.Create(list(chunks)) | PredictChunks(spec)


def _pipeline(options: PipelineOptions) -> beam.Pipeline:
    if not runs_here(options):
        return beam.Pipeline(options=options)
    pipeline = beam.Pipeline(runner=FnApiRunner(), options=options)  # DirectRunner would download another runner first
    with contextlib.suppress(OSError):
        os.rmdir(pipeline.local_tempdir)  # only other runners put files there; a killed run would leave it behind
    return pipeline
