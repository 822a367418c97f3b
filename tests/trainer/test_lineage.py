"""A version tells how it was made."""

import dataclasses
import hashlib
from pathlib import Path

import pytest

from trainer.images.labelled_images import LabelledImage
from trainer.images.split import Split
from trainer.lineage import GateRecord, TrainingRecord, command_line, images_csv, origin, read_images, read_record
from trainer.train_options import TrainJob

JOB = TrainJob(labels="my labels.csv", model_store="m", name="dogs", batch_size=2048, fine_tune=True, min_accuracy=0.5)


def test_the_command_makes_it_again() -> None:
    assert command_line("train", JOB) == (
        "flow-images train --labels 'my labels.csv' --model-store m --name dogs --min-accuracy 0.5 --batch-size 2048 "
        "--fine-tune"
    )


def test_no_secret_of_a_url_is_told() -> None:
    job = dataclasses.replace(JOB, hub_model="https://me:pass@host/hub.tar.gz?signature=abc")
    told = command_line("train", job) + str(origin("train", job)["options"])
    assert told.count("https://…@host/hub.tar.gz?…") == 2
    assert not any(secret in told for secret in ("pass", "abc"))


def test_a_record_is_read_back() -> None:
    gates = (GateRecord(name="min_accuracy", passed=True, wanted="x", found="y"),)
    record = TrainingRecord(**origin("train", JOB), seed=3, accuracy=0.75, accuracy_interval=(0.5, 1.0), gates=gates)
    again = read_record(record.model_dump_json())
    assert again == record
    assert again.blessed_by == ("min_accuracy",)
    assert again.libraries["tensorflow"]
    assert again.options["batch_size"] == 2048


@pytest.mark.parametrize("text", ["", "[]", '{"accuracy": "high"}', "{"])
def test_what_is_no_record_is_told(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        read_record(text)


def test_images_are_listed_with_their_part_and_digest(tmp_path: Path) -> None:
    paths = [str(tmp_path / name) for name in ('a, "1".jpg', "b.jpg", "c.jpg")]
    digests = {path: hashlib.sha256(path.encode()).hexdigest() for path in paths}
    split = Split(*([LabelledImage(path, "pug")] for path in paths))
    rows = read_images(images_csv(split, digests, lambda path: path.replace(str(tmp_path), "gs://b")))
    assert [row.split for row in rows] == ["training", "validation", "test"]
    assert rows[0] == ('gs://b/a, "1".jpg', "pug", "training", digests[paths[0]])
    with pytest.raises(ValueError, match="columns"):
        read_images("path,label\na,b\n")
