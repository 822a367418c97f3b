"""GetModelStatus, GetModelMetadata, and requests to reload that are refused."""

import pytest
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, model_management_pb2

from tests.serving.server.client import Client, refused


def test_status_lists_all_versions_highest_first(client: Client) -> None:
    assert client.status() == [(2, "AVAILABLE"), (1, "AVAILABLE")]
    assert client.status(version=1) == [(1, "AVAILABLE")]


def test_status_ignores_a_label(client: Client) -> None:
    request = get_model_status_pb2.GetModelStatusRequest(model_spec=client.spec(label="anything"))
    assert len(client.models.GetModelStatus(request).model_version_status) == 2


def test_status_of_the_unknown(client: Client) -> None:
    with refused("NOT_FOUND", "Could not find version 9 of model m", exact=True):
        client.status(version=9)
    client.model = "nobody"
    with refused("NOT_FOUND", "Could not find any versions of model nobody", exact=True):
        client.status()
    client.model = ""
    with refused("NOT_FOUND"):
        client.status()


def test_metadata_has_the_signatures_as_exported(client: Client) -> None:
    response = client.metadata("signature_def")
    assert (response.model_spec.name, response.model_spec.version.value) == ("m", 2)
    assert not response.model_spec.signature_name
    signatures = get_model_metadata_pb2.SignatureDefMap()
    response.metadata["signature_def"].Unpack(signatures)
    assert {"serving_default", "classify", "__saved_model_init_op"} <= set(signatures.signature_def)
    info = signatures.signature_def["serving_default"].inputs["x"]
    assert [dim.size for dim in info.tensor_shape.dim] == [-1, 2]


def test_metadata_fields(client: Client) -> None:
    with refused("INVALID_ARGUMENT", "GetModelMetadataRequest must specify at least one metadata_field", exact=True):
        client.metadata()
    with refused("INVALID_ARGUMENT", "Metadata field other is not supported", exact=True):
        client.metadata("other")
    client.model = "nobody"
    with refused("NOT_FOUND", "Servable not found for request: Latest(nobody)", exact=True):
        client.metadata("signature_def")


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ([("a", "/a", "tensorflow")] * 2, "Illegal to list model a multiple times in config list"),
        (
            [("a", "a/b", "tensorflow")],
            "Expected model a to have an absolute path or URI; got base_path()=a/b",
        ),
        ([("a", "/a", "")], "Illegal setting neither "),
        ([("a", "/a", "caffe")], "Model a requests unsupported platform caffe"),
    ],
)
def test_reload_refuses(client: Client, models: list[tuple[str, str, str]], message: str) -> None:
    request = model_management_pb2.ReloadConfigRequest()
    for name, path, platform in models:
        request.config.model_config_list.config.add(name=name, base_path=path, model_platform=platform)
    with refused("INVALID_ARGUMENT", message):
        client.models.HandleReloadConfigRequest(request)


def test_reload_needs_a_list(client: Client) -> None:
    with refused("INVALID_ARGUMENT", "ServerModelConfig type not supported by HandleReloadConfigRequest. "):
        client.models.HandleReloadConfigRequest(model_management_pb2.ReloadConfigRequest())
