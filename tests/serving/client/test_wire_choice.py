"""The wire form where the user names none: files for a server on this machine, unless the answers could differ."""

import pytest

from serving.client.wire_choice import choose
from serving.contract import ModelContract, Preprocessing, SignatureRef
from serving.errors import ContractError
from serving.images.limits import ImageLimits
from serving.images.wire import WireOrAuto

PIXELS = SignatureRef(name="serving_default", input="images", output="probabilities")
FILES = SignatureRef(name="serving_encoded", input="image_bytes", output="probabilities", ok="ok")


def model(**signatures: SignatureRef) -> ModelContract:
    return ModelContract(labels=["a", "b"], preprocessing=Preprocessing(height=8, width=8), signatures=signatures)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("address", "wire"),
    [
        ("unix:/run/server", "encoded"),
        ("localhost:8500", "encoded"),
        ("127.0.0.1:8500", "encoded"),
        ("[::1]:8500", "encoded"),
        ("127.0.0.1:1,127.0.0.2:1", "encoded"),
        ("serving:8500", "float32"),
        ("127.0.0.1:1,10.0.0.1:1", "float32"),
        ("dns:///serving:8500", "float32"),
    ],
)
def test_files_go_to_a_server_on_this_machine(address: str, wire: str) -> None:
    chosen = choose(model(float32=PIXELS, encoded=FILES), "auto", address, ImageLimits())
    assert chosen.wire == wire
    assert "machine" in chosen.why


def test_where_the_server_would_refuse_what_is_allowed_here_pixels_are_sent() -> None:
    larger = ImageLimits(max_image_pixels=200_000_000)
    assert choose(model(float32=PIXELS, encoded=FILES), "auto", "localhost:1", larger).wire == "float32"


def test_a_server_that_does_not_say_which_files_it_cannot_decode_gets_pixels() -> None:
    silent = FILES.model_copy(update={"ok": None})
    assert choose(model(float32=PIXELS, encoded=silent), "auto", "localhost:1", ImageLimits()).wire == "float32"


@pytest.mark.parametrize("wanted", ["float32", "encoded"])
def test_what_the_user_names_is_taken(wanted: WireOrAuto) -> None:
    assert choose(model(float32=PIXELS, encoded=FILES), wanted, "localhost:1", ImageLimits()) == (wanted, "")


def test_a_model_without_pixels_gets_files() -> None:
    assert choose(model(encoded=FILES), "auto", "serving:8500", ImageLimits()).wire == "encoded"


def test_what_the_model_has_not_is_refused() -> None:
    with pytest.raises(ContractError, match="no signature for `wire` uint8"):
        choose(model(float32=PIXELS), "uint8", "localhost:1", ImageLimits())
