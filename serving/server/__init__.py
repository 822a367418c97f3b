"""An embedded server that speaks TensorFlow Serving's API over a SavedModel.

For laptops, tests and CI, where there is no `tensorflow_model_server`. It follows that server's observable behaviour
(RPCs, status codes, wording, version policies, batching, REST, flags), so that a client that works here works there.

    with EmbeddedServer("/models/dogs", model_name="dogs") as server:
        channel = grpc.insecure_channel(server.address)

`ServerProcess` runs the same server as a child process, `python -m serving.server` is the drop-in for the binary, and
`flow-images serve` its friendly face. Importing this package loads nothing heavy; TensorFlow comes with first use.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from serving.server.run.embedded import EmbeddedServer
    from serving.server.run.process import ServerProcess
    from serving.server.run.server_options import ServerOptions

__all__ = ["EmbeddedServer", "ServerOptions", "ServerProcess"]

_HOMES = {
    "EmbeddedServer": "serving.server.run.embedded",
    "ServerOptions": "serving.server.run.server_options",
    "ServerProcess": "serving.server.run.process",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
