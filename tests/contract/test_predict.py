"""Predict: values, dtypes, and who is refused with which words."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2

from tests.serving.server.client import Client, refused
from tests.serving.server.saved_models import TYPES

ROWS = np.array([[1, 2], [3, 4], [5, 6]], np.float32)


def test_the_latest_version_answers_unless_another_is_named(client: Client) -> None:
    assert client.predict(x=ROWS)["y"].tolist() == (ROWS + 2).tolist()
    request = client.request(x=ROWS)
    request.model_spec.version.value = 1
    assert tf.make_ndarray(client.send(request).outputs["y"]).tolist() == (ROWS + 1).tolist()


def test_the_answer_says_what_ran(client: Client) -> None:
    spec = client.send(client.request(x=ROWS)).model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("m", 2, "serving_default")
    assert spec.WhichOneof("version_choice") == "version"


def test_answers_are_in_typed_fields(client: Client) -> None:
    output = client.send(client.request(x=ROWS)).outputs["y"]
    assert not output.tensor_content
    assert list(output.float_val) == (ROWS + 2).reshape(-1).tolist()


@pytest.mark.parametrize("dtype", TYPES, ids=lambda dtype: dtype.name)
@pytest.mark.parametrize("typed", [True, False], ids=["typed field", "tensor_content"])
def test_every_dtype_comes_back_as_it_went(client: Client, dtype: tf.DType, typed: bool) -> None:
    array = _values(dtype)
    proto = tf.make_tensor_proto(array, dtype=dtype)
    if typed and dtype != tf.string:
        proto = _typed(proto, array)
    answer = client.send(client.request(f"same_{dtype.name}", x=proto)).outputs["y"]
    assert answer.dtype == dtype.as_datatype_enum
    assert tf.make_ndarray(answer).tolist() == array.tolist()


def _values(dtype: tf.DType) -> np.ndarray:
    if dtype == tf.string:
        return np.array([b"a", b"", b"\xff\x00z"], object)
    values = [0, 1, 1, 0] if dtype == tf.bool else [0, 1, 100, 7] if dtype.is_unsigned else [0, -1, 100, 7]
    return np.array(values).astype(dtype.as_numpy_dtype)


def _typed(proto: tensor_pb2.TensorProto, array: np.ndarray) -> tensor_pb2.TensorProto:
    typed = tensor_pb2.TensorProto(dtype=proto.dtype, tensor_shape=proto.tensor_shape)
    name = tf.as_dtype(proto.dtype).name
    fields = {"float32": "float_val", "float64": "double_val", "float16": "half_val", "bfloat16": "half_val",
              "complex64": "scomplex_val", "complex128": "dcomplex_val", "int64": "int64_val", "bool": "bool_val",
              "uint32": "uint32_val", "uint64": "uint64_val"}  # fmt: skip
    if name in ("float16", "bfloat16"):
        array = array.view(np.uint16)
    elif name.startswith("complex"):
        array = array.view(array.real.dtype)
    getattr(typed, fields.get(name, "int_val")).extend(array.tolist())
    return typed


@pytest.mark.parametrize(
    ("sent", "shape", "read"),
    [
        ([1, 2, 3], [3], [1, 2, 3]),
        ([1, 2], [4], [1, 2, 2, 2]),
        ([], [3], [0, 0, 0]),
        ([1, 2, 3], [2], [1, 2]),
    ],
    ids=["as many", "too few repeat the last", "none are zeros", "extras are cut"],
)
def test_typed_fields_never_fail_on_their_count(
    client: Client, sent: list[float], shape: list[int], read: list[float]
) -> None:
    proto = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, float_val=sent)
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    assert client.predict("same_float32", x=proto)["y"].tolist() == read


def test_unknown_rank_is_a_scalar(client: Client) -> None:
    proto = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, float_val=[7])
    proto.tensor_shape.unknown_rank = True
    assert client.predict("same_float32", x=proto)["y"].tolist() == 7


def test_shapes_of_the_signature_are_not_enforced(client: Client) -> None:
    cube = np.ones([2, 3, 4], np.float32)
    assert client.predict("same_float32", x=cube)["y"].tolist() == cube.tolist()


def test_but_a_kernel_may_refuse_them(client: Client) -> None:
    with refused("INVALID_ARGUMENT", "Matrix size-incompatible: In[0]: [3,5], In[1]: [2,3]"):
        client.predict("matmul", x=np.ones([3, 5], np.float32))
    with refused("INVALID_ARGUMENT", "Shape of tensor"):
        client.predict("ensured", x=np.ones([3, 5], np.float32))


def test_zero_rows_give_zero_rows(client: Client) -> None:
    assert client.predict(x=np.zeros([0, 2], np.float32))["y"].shape == (0, 2)
    assert client.predict("matmul", x=np.zeros([0, 2], np.float32))["y"].shape == (0, 3)


def test_nan_and_infinity_pass_through(client: Client) -> None:
    odd = np.array([np.nan, np.inf, -np.inf, -0.0], np.float32)
    assert client.predict("same_float32", x=odd)["y"].tobytes() == odd.tobytes()


@pytest.mark.parametrize("value", [np.array([[1, 2]], np.int32), np.array([[1, 2]], np.float16), [["a", "b"]]])
def test_dtypes_are_never_converted(client: Client, value: object) -> None:
    with refused("INVALID_ARGUMENT", "Expects arg[0] to be float but "):
        client.predict(x=value)


def test_a_signature_without_inputs(client: Client) -> None:
    assert client.predict("constant")["y"] == 2


def test_an_output_filter_chooses_outputs(client: Client) -> None:
    request = client.request("three", x=ROWS)
    assert set(client.send(request).outputs) == {"double", "row", "text_bytes"}
    request.output_filter.extend(["row", "double"])
    assert set(client.send(request).outputs) == {"double", "row"}


def test_state_is_shared_between_requests(client: Client) -> None:
    zero = np.zeros(1, np.float32)
    first = client.predict("count", x=zero)["y"][0]
    assert client.predict("count", x=zero)["y"][0] == first + 1


def test_a_table_looks_up_strings(client: Client) -> None:
    assert client.predict("lookup", keys=["contract", "x"])["values"].tolist() == [b"{}", b"missing"]


@pytest.mark.parametrize(
    ("name", "version", "label", "code", "message"),
    [
        ("", None, "", "INVALID_ARGUMENT", "ModelSpec has no name specified."),
        ("nobody", None, "", "NOT_FOUND", "Servable not found for request: Latest(nobody)"),
        ("m", 0, "", "NOT_FOUND", "Servable not found for request: Specific(m, 0)"),
        ("m", 99, "", "NOT_FOUND", "Servable not found for request: Specific(m, 99)"),
        ("m", None, "best", "INVALID_ARGUMENT", "Unrecognized servable version label: best"),
        ("nobody", None, "best", "INVALID_ARGUMENT", "Unrecognized servable version label: best"),
    ],
)
def test_choosing_a_model(client: Client, name: str, version: int | None, label: str, code: str, message: str) -> None:
    client.model = name
    request = client.request(x=ROWS)
    request.model_spec.CopyFrom(client.spec(version=version, label=label))
    with refused(code, message, exact=True):
        client.send(request)


@pytest.mark.parametrize("name", ["m", "nobody"])
def test_a_label_that_is_set_but_empty_is_unknown(client: Client, name: str) -> None:
    client.model = name
    request = client.request(x=ROWS)
    request.model_spec.version_label = ""
    with refused("INVALID_ARGUMENT", "Unrecognized servable version label: ", exact=True):
        client.send(request)


def test_a_missing_model_spec(client: Client) -> None:
    request = client.request(x=ROWS)
    request.ClearField("model_spec")
    with refused("INVALID_ARGUMENT", "Missing ModelSpec", exact=True):
        client.send(request)


def test_an_unknown_signature(client: Client) -> None:
    with refused("FAILED_PRECONDITION", 'Serving signature key "other" not found.', exact=True):
        client.predict("other", x=ROWS)


@pytest.mark.parametrize(
    ("aliases", "message"),
    [
        ("a", "1!=2 len({a}) != len({a,b}). Sent extra: {}. Missing but required: {b}."),
        ("abx", "3!=2 len({a,b,x}) != len({a,b}). Sent extra: {x}. Missing but required: {}."),
        ("", "0!=2 len({}) != len({a,b}). Sent extra: {}. Missing but required: {a,b}."),
    ],
)
def test_the_number_of_inputs(client: Client, aliases: str, message: str) -> None:
    with refused("INVALID_ARGUMENT", f"input size does not match signature: {message}", exact=True):
        client.predict("two", **dict.fromkeys(aliases, np.ones(1, np.float32)))


def test_a_wrong_input_name(client: Client) -> None:
    with refused("INVALID_ARGUMENT", "Signature input alias: x(feed name: "):
        client.predict(z=ROWS)
    with refused("INVALID_ARGUMENT", "Inputs expected to be in the request {z}, or default input alias set: "):
        client.predict(z=ROWS)


@pytest.mark.parametrize(
    ("filter_", "message"),
    [
        (["z"], "output tensor alias not found in signature: z Outputs expected to be in the set {y}."),
        (["y", "y"], "duplicate output tensor alias: y"),
    ],
)
def test_a_bad_output_filter(client: Client, filter_: list[str], message: str) -> None:
    request = client.request(x=ROWS)
    request.output_filter.extend(filter_)
    with refused("INVALID_ARGUMENT", message, exact=True):
        client.send(request)


def _broken_protos() -> dict[str, tensor_pb2.TensorProto]:
    def proto(content: bytes, *shape: int, dtype: int = types_pb2.DT_FLOAT) -> tensor_pb2.TensorProto:
        made = tensor_pb2.TensorProto(dtype=dtype, tensor_content=content)
        for size in shape:
            made.tensor_shape.dim.add(size=size)
        return made

    return {
        "content too short": proto(bytes(12), 2, 2),
        "content too long": proto(bytes(20), 2, 2),
        "negative size": proto(bytes(16), -1, 2),
        "huge shape": proto(b"", 2**31, 2**31, 2),
        "no dtype": proto(bytes(16), 2, 2, dtype=0),
        "unknown dtype": proto(bytes(16), 2, 2, dtype=77),
        "a resource": proto(bytes(16), 2, 2, dtype=types_pb2.DT_RESOURCE),
        "large content too short": proto(bytes(999_996), 500, 500),
    }


@pytest.mark.parametrize("kind", _broken_protos())
def test_a_tensor_that_does_not_decode(client: Client, kind: str) -> None:
    with refused("INVALID_ARGUMENT", "tensor parsing error: x", exact=True):
        client.predict(x=_broken_protos()[kind])


def test_large_tensors_take_the_same_way(client: Client) -> None:
    large = np.random.default_rng(0).random((200_000, 2), np.float32)
    np.testing.assert_array_equal(client.predict(x=large)["y"], large + 2)
    first, second = large[:, 0].copy(), large[:, 1].copy()
    answer = client.predict("two", a=first, b=second)
    np.testing.assert_array_equal(answer["sum"], first + second)


def test_the_init_op_is_no_function(client: Client) -> None:
    with refused("OUT_OF_RANGE"):
        client.predict("__saved_model_init_op")


def test_long_messages_are_cut(client: Client) -> None:
    with refused("FAILED_PRECONDITION", "...TRUNCATED"):
        client.predict("n" * 2000, x=ROWS)


def test_a_tf1_model(half_plus_two: Client) -> None:
    assert half_plus_two.predict(x=np.array([2, 4], np.float32))["y"].tolist() == [3, 4]
    assert half_plus_two.predict(x=np.array([[2], [4]], np.float32))["y"].tolist() == [[3], [4]]


def test_any_signature_may_be_predicted(half_plus_two: Client) -> None:
    request = half_plus_two.request("regress_x_to_y", inputs=[_example_bytes(2.0)])
    assert tf.make_ndarray(half_plus_two.send(request).outputs["outputs"]).tolist() == [[3]]


def _example_bytes(x: float) -> bytes:
    example = tf.train.Example()
    example.features.feature["x"].float_list.value.append(x)
    return example.SerializeToString()
