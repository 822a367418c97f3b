"""Flow Images in Beam pipelines: `fi.beam.Classify`, a model handler for `RunInference`, and a runner for Dask.

Importing it imports Apache Beam (the extra `predict`), and Dask with the first use of `DaskRunner` (the extra `dask`).
"""

from typing import TYPE_CHECKING

from beam_jobs.ipython import name_steps_without_interactive_runner
from flow_images.beam.classify import Classified, Classify
from flow_images.beam.model_handler import TFServingModelHandler

if TYPE_CHECKING:
    from beam_jobs.dask.dask_runner import DaskRunner as DaskRunner

__all__ = ["Classified", "Classify", "DaskRunner", "TFServingModelHandler"]

name_steps_without_interactive_runner()


def __getattr__(name: str) -> object:
    if name != "DaskRunner":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from beam_jobs.dask.dask_runner import DaskRunner

    return DaskRunner
