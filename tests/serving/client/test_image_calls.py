"""Batches of images, asked about at a server whose TensorFlow decodes no WebP, as those before 2.20."""

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import trainer.export
from serving.client.client_options import Endpoint
from serving.client.discovery import discover
from serving.client.image_calls import ImagePredictor
from serving.client.model_overrides import ModelOverrides
from serving.client.predict_client import PredictClient
from serving.contract import Preprocessing
from serving.images.preprocessing import decode_batch
from serving.server import EmbeddedServer

SIDE = 16


class _Corner(tf.Module):
    """Red and green of the upper left pixel."""

    @tf.function
    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        return images[:, 0, 0, :2]


def _decode_without_webp(files: tf.Tensor, preprocessing: Preprocessing) -> tuple[tf.Tensor, tf.Tensor]:
    images, ok = decode_batch(files, preprocessing)
    ok &= ~tf.strings.regex_full_match(files, r"RIFF(?s:.)*")
    return tf.where(ok[:, None, None, None], images, 0), ok


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PredictClient]:
    """A client of a model that takes images upright, and no WebP."""
    store = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(trainer.export, "decode_batch", _decode_without_webp)
        upright = Preprocessing(height=SIDE, width=SIDE, orientation="exif")
        trainer.export.export(_Corner(), ["red", "green"], upright, None, store=str(store), name="corner")
    with (
        EmbeddedServer(str(store / "corner"), model_name="corner") as server,
        PredictClient(Endpoint(address=server.address, model_name="corner")) as client,
    ):
        yield client


def _file(colour: str, format: str, **options: Any) -> bytes:
    pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
    pixels[: SIDE // 2] = {"red": (255, 0, 0), "green": (0, 255, 0)}[colour]
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format, **options)
    return file.getvalue()


def test_a_webp_is_sent_as_a_png_of_the_same_pixels_where_no_webp_is_decoded(older: PredictClient) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3  # turned by 180 degrees, so its corner is black
    webp = _file("green", "WEBP", lossless=True)
    files = [_file("red", "PNG"), webp, _file("green", "WEBP", lossless=True, exif=exif), webp[:30], b"?",
             _file("red", "WEBP", lossless=True)]  # fmt: skip
    predictor = ImagePredictor(older, discover(older, ModelOverrides()), "encoded")
    for _ in range(2):  # at first after a refusal, then at once
        scores = predictor.predict(files)
        assert scores.ok.tolist() == [True, True, True, False, False, True]
        assert scores.probabilities[scores.ok].tolist() == [[1, 0], [0, 1], [0, 0], [1, 0]]
