"""Drawn images are what a demonstration says they are."""

import csv
from collections import Counter
from pathlib import Path

from PIL import Image

from trainer.demo_data import TEXTURES, draw_images


def test_images_are_labelled_jpegs_of_many_sizes_larger_than_a_models_input(tmp_path: Path) -> None:
    labels = draw_images(tmp_path, per_class=3)
    with open(labels, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert Counter(row["breed"] for row in rows) == dict.fromkeys(TEXTURES, 3)
    images = [Image.open(tmp_path / "train" / f"{row['id']}.jpg") for row in rows]
    assert {image.format for image in images} == {"JPEG"}
    assert len({image.size for image in images}) > len(images) / 2
    assert min(min(image.size) for image in images) > 224


def test_the_seed_decides_every_byte(tmp_path: Path) -> None:
    files = {}
    for name, seed in {"a": 1, "b": 1, "c": 2}.items():
        draw_images(tmp_path / name, per_class=1, seed=seed)
        files[name] = [path.read_bytes() for path in sorted((tmp_path / name / "train").iterdir())]
    assert files["a"] == files["b"]
    assert set(files["a"]).isdisjoint(files["c"])
