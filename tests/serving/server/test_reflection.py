"""gRPC's reflection, by which tools such as grpcurl find the services and their messages."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.serving.server.conftest import Serve

ASK = """
import sys, grpc
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
database = ProtoReflectionDescriptorDatabase(grpc.insecure_channel(sys.argv[1]))
pool = DescriptorPool(database)
for name in ("PredictionService", "ModelService"):
    print(*[method.name for method in pool.FindServiceByName(f"tensorflow.serving.{name}").methods])
"""


def test_the_services_are_described(serve: Serve, written: Path) -> None:
    client = serve(written / "m")
    # In a process of its own, which knows none of the messages.
    asked = subprocess.run([sys.executable, "-c", ASK, client.address], capture_output=True, text=True, check=True)
    assert asked.stdout.splitlines() == [
        "Classify Regress Predict MultiInference GetModelMetadata",
        "GetModelStatus HandleReloadConfigRequest",
    ]
