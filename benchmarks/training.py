"""Training: its time as a multiple of one pass over the images, its accuracy over seeds, what is found in the images.

python benchmarks/training.py --labels labels.csv --images train/ --hub-model hub/ [--seeds 5] [--fine-tune]
"""

import argparse
import io
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import tf_keras
from PIL import Image, ImageEnhance

from trainer.data import create_data_batches, image_options, one_hot
from trainer.demo_data import draw_images, make_hub_module
from trainer.evaluation.calibration import calibration_error, fit_temperature, with_temperature
from trainer.evaluation.metrics import targets_of
from trainer.evaluation.mislabels import rank_labels
from trainer.features import extract_features
from trainer.head import HeadOptions, accuracy, log_loss
from trainer.head_search import out_of_fold
from trainer.hub.module import HubModule, load_module
from trainer.images.check import CheckedImages, check_images
from trainer.images.labelled_images import class_names, read_labels
from trainer.images.near_duplicates import fingerprint, near_duplicates
from trainer.images.split import Split, split_images
from trainer.model import model_of
from trainer.train import preprocessing_of, train
from trainer.train_options import TrainOptions

_EPOCHS = 15
_ROUNDS = 5


class Data(NamedTuple):
    """Checked images, and the module that is trained on."""

    checked: CheckedImages
    module: HubModule
    handle: str

    def split(self, seed: int) -> Split:
        """As `flow-images train` has it."""
        checked = self.checked
        return split_images(checked.images, checked.digests, checked.near_duplicates, validation_share=0.15,
                            test_share=0.15, seed=seed)  # fmt: skip


def seconds(work: Callable[[], object]) -> float:
    """Wall time of a call."""
    began = time.monotonic()
    work()
    return time.monotonic() - began


def measure_time(data: Data) -> dict[str, float]:
    """One pass over all images, a whole training, and a plain Keras loop over images, in one run."""
    split, options = data.split(0), TrainOptions(hub_model=data.handle, epochs=_EPOCHS)
    preprocessing = preprocessing_of(options, data.module.image_size)
    paths = [image.path for part in split for image in part]

    def one_pass() -> None:
        extract_features(data.module.layer, data.module.features, paths, preprocessing, name="f")

    def plain() -> None:
        model = model_of(data.module, len(class_names(split.training)))
        model.compile(tf_keras.optimizers.Adam(0.003), tf_keras.losses.CategoricalCrossentropy(), ["accuracy"])
        labels = class_names(split.training)

        def batches(part: Sequence[Any], **kind: bool) -> Any:
            return create_data_batches([image.path for image in part], one_hot([image.label for image in part], labels),
                                       seed=0, **kind, **image_options(preprocessing))  # fmt: skip

        model.fit(batches(split.training), validation_data=batches(split.validation, valid_data=True), epochs=_EPOCHS,
                  verbose=0)  # fmt: skip

    runs: list[float] = []

    def whole() -> None:
        steps = train(split, options, data.module).seconds
        runs.append(sum(value for name, value in steps.items() if name != "features"))

    one_pass()  # what is loaded and traced once
    found = {"one_pass_s": np.inf, "train_s": np.inf}
    for _ in range(_ROUNDS):  # in turns, and the least of each, as other work on the machine only adds
        found = {name: min(found[name], seconds(work)) for name, work in (("one_pass_s", one_pass), ("train_s", whole))}
    found |= {"plain_loop_s": seconds(plain), "head_and_search_s": min(runs)}
    found["train_without_head_in_passes"] = (found["train_s"] - found["head_and_search_s"]) / found["one_pass_s"]
    found["plain_loop_in_passes"] = found["plain_loop_s"] / found["one_pass_s"]
    return {name: round(value, 3) for name, value in found.items()}


def measure_accuracy(data: Data, seeds: int, **options: Any) -> dict[str, Any]:
    """Figures on the test images, each seed with a split of its own: mean and standard deviation."""
    rows = []
    for seed in range(seeds):
        split = data.split(seed)
        module = load_module(data.handle, trainable=True) if options.get("fine_tune") else data.module
        trained = train(split, TrainOptions(hub_model=data.handle, seed=seed, **options), module)
        numbers = [targets_of(part, trained.labels) for part in (split.validation, split.test)]
        temperature = fit_temperature(trained.validation_probabilities, numbers[0])
        scores = trained.test_probabilities
        scaled = with_temperature(scores, temperature)
        rows.append((accuracy(scores, numbers[1]), log_loss(scores, numbers[1]), log_loss(scaled, numbers[1]),
                     calibration_error(scores, numbers[1]), calibration_error(scaled, numbers[1]), temperature,
                     trained.best_epoch))  # fmt: skip
    names = ("accuracy", "log_loss", "log_loss_calibrated", "error", "error_calibrated", "temperature", "epoch")
    columns = np.array(rows, float)
    return {name: {"mean": round(float(column.mean()), 3), "spread": round(float(column.std()), 3)}
            for name, column in zip(names, columns.T, strict=True)}  # fmt: skip


def measure_mislabels(data: Data, seeds: int, share: float = 0.05) -> dict[str, float]:
    """Share of planted wrong labels that are in the first fifth of the list."""
    images, labels = data.checked.images, class_names(data.checked.images)
    preprocessing = preprocessing_of(TrainOptions(), data.module.image_size)
    paths = [image.path for image in images]
    features = extract_features(data.module.layer, data.module.features, paths, preprocessing, name="f")
    right = targets_of(images, labels)
    found = []
    for seed in range(seeds):
        chance = np.random.default_rng(seed)
        wrong = chance.choice(len(images), max(1, round(share * len(images))), replace=False)
        given = right.copy()
        given[wrong] = (given[wrong] + chance.integers(1, len(labels), len(wrong))) % len(labels)
        answers = out_of_fold(features, given, len(labels), HeadOptions(0.003, 0.3, 0.4), epochs=40, batch_size=32,
                              weights=np.ones(len(labels), np.float32), seed=seed)  # fmt: skip
        listed = [image._replace(label=labels[number]) for image, number in zip(images, given, strict=True)]
        first = {one.path for one in rank_labels(listed, answers, labels)[: len(images) // 5]}
        found.append(np.mean([images[row].path in first for row in wrong]))
    return {"planted": share, "in_first_fifth": round(float(np.mean(found)), 3), "least": round(float(min(found)), 3)}


def _variants(image: Image.Image) -> Iterator[tuple[str, Image.Image]]:
    width, height = image.size
    data = io.BytesIO()
    image.save(data, "JPEG", quality=40)
    yield "half the size", image.resize((width // 2, height // 2))
    yield "a third of the size", image.resize((width // 3, height // 3))
    yield "JPEG quality 40", Image.open(data)
    yield "15 % brighter", ImageEnhance.Brightness(image).enhance(1.15)
    yield "grey", image.convert("L")
    yield "mirrored", image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    for percent in (3, 5, 8):
        edge = percent / 100
        box = (int(edge * width), int(edge * height), int((1 - edge) * width), int((1 - edge) * height))
        yield f"cropped by {percent} % on each side", image.crop(box)


def measure_near_duplicates(data: Data) -> dict[str, Any]:
    """Share of planted variants that are found, and pairs of different images that are taken for one."""
    images = []
    for labelled in data.checked.images:
        with Image.open(labelled.path) as file:
            images.append(file.convert("RGB"))
    prints = [fingerprint(image) for image in images]
    found: dict[str, list[bool]] = {}
    for image, original in zip(images, prints, strict=True):
        for name, variant in _variants(image):
            found.setdefault(name, []).append(bool(near_duplicates([original, fingerprint(variant)])))
    many = [one for one in prints if one is not None]
    many = [many[number % len(many)]._replace(bits=int(bits), mirrored_bits=int(mirrored)) for number, (bits, mirrored)
            in enumerate(np.random.default_rng(0).integers(0, 2**63, (10_000, 2)))]  # fmt: skip
    return {
        "found": {name: round(float(np.mean(hits)), 3) for name, hits in found.items()},
        "groups_of_different_images": len(near_duplicates(prints)),
        "seconds_to_compare_10000": round(seconds(lambda: near_duplicates(many)), 2),
    }


def measure_scale(classes: int = 120, each: int = 40) -> dict[str, float]:
    """Checks and trains on many classes of drawn images, which only stand for their number."""
    with tempfile.TemporaryDirectory() as folder:
        make_hub_module(Path(folder) / "hub", image_size=64)
        labels = draw_images(folder, per_class=-(-classes * each // 6), seed=1)
        images = read_labels(str(labels), f"{folder}/train")[: classes * each]
        images = [image._replace(label=f"class {number % classes}") for number, image in enumerate(images)]
        began = time.monotonic()
        checked = check_images(images)
        checking = time.monotonic() - began
        data = Data(checked, load_module(f"{folder}/hub"), f"{folder}/hub")
        steps = train(data.split(0), TrainOptions(hub_model=data.handle), data.module).seconds
    return {"images": len(images), "classes": classes, "checking": round(checking, 1), **steps}


def main() -> None:
    """Prints all figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--labels", required=True)
    parser.add_argument("--images", required=True)
    parser.add_argument("--hub-model", required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--fine-tune", action="store_true", help="also measure fine-tuning, which takes minutes a seed")
    given = parser.parse_args()
    checked = check_images(read_labels(given.labels, given.images))
    data = Data(checked, load_module(given.hub_model), given.hub_model)
    found: dict[str, Any] = {"time": measure_time(data), "near_duplicates": measure_near_duplicates(data)}
    found["mislabels"] = measure_mislabels(data, given.seeds)
    found["frozen"] = measure_accuracy(data, given.seeds)
    found["plain"] = measure_accuracy(data, given.seeds, epochs=15, learning_rate=0.003, weight_decay=0.0, dropout=0.0)
    if given.fine_tune:
        found["fine_tuned"] = measure_accuracy(data, given.seeds, fine_tune=True)
    found["scale"] = measure_scale()
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
