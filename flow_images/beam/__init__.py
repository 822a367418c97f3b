"""Flow Images in Beam pipelines: `fi.beam.Classify`, and a model handler for `RunInference`.

Importing it imports Apache Beam (the extra `predict`).
"""

from beam_jobs.ipython import name_steps_without_interactive_runner
from flow_images.beam.classify import Classified, Classify
from flow_images.beam.model_handler import TFServingModelHandler

__all__ = ["Classified", "Classify", "TFServingModelHandler"]

name_steps_without_interactive_runner()
