"""Flow Images in Beam pipelines: `fi.beam.Classify`, and a model handler for `RunInference`.

Importing it imports Apache Beam (the extra `predict`).
"""

from flow_images.beam.classify import Classified, Classify
from flow_images.beam.model_handler import TFServingModelHandler

__all__ = ["Classified", "Classify", "TFServingModelHandler"]
