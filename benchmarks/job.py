"""CPU seconds an image: the whole job, client and server, against one process without a network.

    python benchmarks/job.py --model models/dogs --images photos/ [--count 1500 --rounds 3]

The floor is one process that runs tf.data (read, decode, resize, batch) and the SavedModel. Both sides are whole
processes with their children, measured by the operating system. Each is run with few and with many images, and the
difference counts, so that what is stated is the cost of an image and not that of importing TensorFlow, which stands
in a column of its own. All runs of a round follow one another; the ratio is the median over the rounds.
"""

import argparse
import itertools
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

WIRES = ("float32", "uint8", "encoded")
FEW = 96

FLOOR = """
import sys, tensorflow as tf
from serving.contract import CONTRACT_ASSET, ModelContract
from serving.images.preprocessing import decode_image
version, folder = sys.argv[1:]
model = tf.saved_model.load(version)
contract = ModelContract.from_json(open(f"{version}/assets.extra/{CONTRACT_ASSET}").read())
data = tf.data.Dataset.list_files(folder + "/*", shuffle=False)
data = data.map(lambda path: decode_image(tf.io.read_file(path), contract.preprocessing), tf.data.AUTOTUNE)
signature = model.signatures["serving_default"]
rows = sum(len(signature(images=batch)["probabilities"].numpy()) for batch in data.batch(32).prefetch(2))
print(rows)
"""


class Cost(NamedTuple):
    """CPU and wall seconds of a process and its children."""

    cpu: float
    wall: float


def run(command: list[str]) -> Cost:
    """Runs a command to its end."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(command, check=True, capture_output=True, env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2"})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(cpu, time.monotonic() - start)


def link_images(source: Path, target: Path, count: int) -> None:
    """Fills a folder with `count` links to the images of another, round and round."""
    target.mkdir()
    images = sorted(path for path in source.rglob("*") if path.is_file() and not path.name.startswith("."))
    for number, image in zip(range(count), itertools.cycle(images), strict=False):
        (target / f"{number:06}{image.suffix}").symlink_to(image.resolve())


def commands(model: Path, folder: Path, output: Path) -> dict[str, list[str]]:
    """The floor and the job in each wire form."""
    version = max((path for path in model.iterdir() if path.name.isdigit()), key=lambda path: int(path.name))
    job = [sys.executable, "-m", "flow_images", "predict", "--model", str(model), "--input", str(folder), "--fresh"]
    return {
        "in one process": [sys.executable, "-c", FLOOR, str(version), str(folder)],
        **{wire: [*job, "--wire", wire, "--output", str(output / wire)] for wire in WIRES},
    }


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--count", type=int, default=1500)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    costs: dict[str, list[tuple[float, float, float]]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        link_images(options.images, root / "few", FEW)
        link_images(options.images, root / "many", options.count)
        for _ in range(options.rounds):
            few = {name: run(command) for name, command in commands(options.model, root / "few", root).items()}
            many = {name: run(command) for name, command in commands(options.model, root / "many", root).items()}
            for name in few:
                extra = options.count - FEW
                cpu = (many[name].cpu - few[name].cpu) / extra
                wall = (many[name].wall - few[name].wall) / extra
                costs.setdefault(name, []).append((cpu, wall, few[name].cpu - FEW * cpu))
    floor = [cpu for cpu, _, _ in costs["in one process"]]
    print(f"{options.count} images, {options.rounds} rounds, medians; ratio of CPU to 'in one process'\n")
    print("| way | CPU ms an image | wall ms an image | start-up, CPU s | ratio | min to max |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, rounds in costs.items():
        cpu, wall, start = (statistics.median(column) for column in zip(*rounds, strict=True))
        ratios = [mine / base for (mine, _, _), base in zip(rounds, floor, strict=True)]
        print(
            f"| {name} | {cpu * 1e3:.1f} | {wall * 1e3:.1f} | {start:.1f} | {statistics.median(ratios):.2f} "
            f"| {min(ratios):.2f} to {max(ratios):.2f} |"
        )


if __name__ == "__main__":
    main()
