"""Flow Images: what is in each image of a folder or bucket, with every image accounted for.

    import flow_images as fi

    with fi.Client("localhost:8500", "dogs") as client:
        print(client.classify("photo.jpg").label)

`Client` and `AsyncClient` ask a served model. `train` makes one, and `EmbeddedServer` serves it. `predict` runs the
whole job over a folder or bucket. `beam` has transforms for pipelines of your own. `errors` has what can go wrong.
Each name is imported when it is first used, so importing this package takes no time.
"""

import sys

TYPE_CHECKING = False  # as typing's, which is not imported before `flow_images.cli` has cleaned the import path
if TYPE_CHECKING:
    from flow_images import beam as beam
    from flow_images import errors as errors
    from flow_images.async_client import AsyncClient as AsyncClient
    from flow_images.classification import Classification as Classification
    from flow_images.classification import LabelScore as LabelScore
    from flow_images.client import Client as Client
    from flow_images.evaluation import EvaluatedModel as EvaluatedModel
    from flow_images.evaluation import evaluate as evaluate
    from flow_images.prediction import Account as Account
    from flow_images.prediction import predict as predict
    from flow_images.progress import Progress as Progress
    from flow_images.training import TrainedModel as TrainedModel
    from flow_images.training import train as train
    from serving.client.client_options import TlsOptions as TlsOptions
    from serving.client.model_overrides import ModelOverrides as ModelOverrides
    from serving.images.limits import ImageLimits as ImageLimits
    from serving.server import EmbeddedServer as EmbeddedServer
    from serving.server import ServerProcess as ServerProcess
    from serving.storage.storage_options import StorageOptions as StorageOptions

    __version__: str

__all__ = [
    "Account",
    "AsyncClient",
    "Classification",
    "Client",
    "EmbeddedServer",
    "EvaluatedModel",
    "ImageLimits",
    "LabelScore",
    "ModelOverrides",
    "Progress",
    "ServerProcess",
    "StorageOptions",
    "TlsOptions",
    "TrainedModel",
    "__version__",
    "beam",
    "errors",
    "evaluate",
    "predict",
    "train",
]

_HOMES = {
    "Account": "flow_images.prediction",
    "AsyncClient": "flow_images.async_client",
    "Classification": "flow_images.classification",
    "Client": "flow_images.client",
    "EmbeddedServer": "serving.server",
    "EvaluatedModel": "flow_images.evaluation",
    "ImageLimits": "serving.images.limits",
    "LabelScore": "flow_images.classification",
    "ModelOverrides": "serving.client.model_overrides",
    "Progress": "flow_images.progress",
    "ServerProcess": "serving.server",
    "StorageOptions": "serving.storage.storage_options",
    "TlsOptions": "serving.client.client_options",
    "TrainedModel": "flow_images.training",
    "evaluate": "flow_images.evaluation",
    "predict": "flow_images.prediction",
    "train": "flow_images.training",
}
"""The module of each name."""

if "IPython" in sys.modules and "apache_beam" in sys.modules:  # the first step of a pipeline may precede `fi.beam`
    from beam_jobs.ipython import name_steps_without_interactive_runner

    name_steps_without_interactive_runner()

if not TYPE_CHECKING:  # a type checker knows the names from above, and no others

    def __getattr__(name: str) -> object:
        import importlib

        if name == "__version__":
            from importlib.metadata import version

            value = version("flow-images")
        elif name in ("beam", "errors"):
            value = importlib.import_module(f"flow_images.{name}")
        elif name in _HOMES:
            value = getattr(importlib.import_module(_HOMES[name]), name)
        else:
            raise AttributeError(f"module 'flow_images' has no attribute {name!r}")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
