"""The version in service is asked about the test images that it has not seen."""

from pathlib import Path

import numpy as np
import pytest

from serving.errors import FlowImagesError
from serving.storage.stores import Stores
from trainer.evaluation.in_service import compare
from trainer.images.labelled_images import read_labels


def test_a_version_that_cannot_be_asked_is_named(drawn: Path, tmp_path: Path) -> None:
    version = tmp_path / "store" / "dogs" / "3"
    version.mkdir(parents=True)
    (version / "saved_model.pb").write_text("junk")
    (image, *_) = read_labels(str(drawn / "labels.csv"), str(drawn / "train"))
    with pytest.raises(FlowImagesError) as caught:
        compare(str(version.parent), [image], np.ones((1, 1)), [image.label], {image.path: "digest"}, stores=Stores())
    assert str(caught.value).startswith(f"`max_regression`: {version}, the version in service, can't be asked: ")


def test_no_version_is_in_service(tmp_path: Path) -> None:
    assert compare(str(tmp_path), [], np.ones((0, 1)), ["pug"], {}, stores=Stores()) is None
