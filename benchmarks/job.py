"""CPU seconds an image: the whole job, client and server, against one process without a network.

    python benchmarks/job.py --model models/dogs --images photos/ [--count 1500 --rounds 3]

The floor is one process that runs tf.data (read, decode, resize, batch) and the SavedModel. Both sides are whole
processes with their children, measured by the operating system. Each is run with few and with many images, and the
difference counts, so that what is stated is the cost of an image and not that of importing TensorFlow, which stands
in a column of its own. All runs of a round follow one another; the ratio is the median over the rounds. Each wire form
is tried with a server of the job's own, and against one that runs already, whose CPU counts but not its start.
"""

import argparse
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from serving.contract import CONTRACT_ASSET, ModelContract
from serving.server import ServerProcess

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
    """CPU and wall seconds of a process and its children, and the most megabytes that one of them took."""

    cpu: float
    wall: float
    peak: float


def run(command: list[str], server: int) -> Cost:
    """Runs a command to its end; what the process `server` does meanwhile is part of its CPU."""
    before, start = cpu_seconds(server), time.monotonic()
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2"}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    cpu = used.ru_utime + used.ru_stime + cpu_seconds(server) - before
    return Cost(cpu, time.monotonic() - start, used.ru_maxrss / 1024)


def cpu_seconds(process: int) -> float:
    """What a process has used so far."""
    user, system = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def link_images(source: Path, target: Path, count: int) -> None:
    """Fills a folder with `count` links to the images of another, round and round."""
    target.mkdir()
    images = sorted(path for path in source.rglob("*") if path.is_file() and not path.name.startswith("."))
    for number, image in zip(range(count), itertools.cycle(images), strict=False):
        (target / f"{number:06}{image.suffix}").symlink_to(image.resolve())


def commands(model: Path, folder: Path, output: Path, address: str) -> dict[str, list[str]]:
    """The floor, and the job in each wire form with a server of its own and against a running one."""
    version = max((path for path in model.iterdir() if path.name.isdigit()), key=lambda path: int(path.name))
    job = [sys.executable, "-m", "flow_images", "predict", "--input", str(folder), "--fresh"]
    servers = {"own server": ["--model", str(model)], "running server": ["--server", address, "--model-name", "m"]}
    ways = {
        "in one process": [sys.executable, "-c", FLOOR, str(version), str(folder)],
        **{
            f"{wire}, {name}": [*job, *flags, "--wire", wire, "--output", str(output / wire / name)]
            for name, flags in servers.items()
            for wire in WIRES
        },
    }
    contract = ModelContract.from_json((version / "assets.extra" / CONTRACT_ASSET).read_text(encoding="utf-8"))
    if contract.embeddings:  # a model of an earlier release has none
        ways["encoded with embeddings, running server"] = [
            *[*job, *servers["running server"], "--wire", "encoded"],
            *["--embeddings", "--output", str(output / "embeddings")],
        ]
    return ways


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--count", type=int, default=1500)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    costs: dict[str, list[tuple[float, float, float, float]]] = {}
    with tempfile.TemporaryDirectory() as temporary, ServerProcess(options.model, model_name="m") as server:
        root = Path(temporary)
        link_images(options.images, root / "few", FEW)
        link_images(options.images, root / "many", options.count)
        for _ in range(options.rounds):
            few, many = (
                {
                    name: run(command, server.pid)
                    for name, command in commands(options.model, root / folder, root, server.address).items()
                }
                for folder in ("few", "many")
            )
            for name in few:
                extra = options.count - FEW
                cpu = (many[name].cpu - few[name].cpu) / extra
                wall = (many[name].wall - few[name].wall) / extra
                costs.setdefault(name, []).append((cpu, wall, few[name].cpu - FEW * cpu, many[name].peak))
    floor = [cpu for cpu, *_ in costs["in one process"]]
    print(f"{options.count} images, {options.rounds} rounds, medians; ratio of CPU to 'in one process'\n")
    print("| way | CPU ms an image | wall ms an image | start-up, CPU s | largest process, MB | ratio | min to max |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, rounds in costs.items():
        cpu, wall, start, peak = (statistics.median(column) for column in zip(*rounds, strict=True))
        ratios = [mine / base for (mine, *_), base in zip(rounds, floor, strict=True)]
        print(
            f"| {name} | {cpu * 1e3:.1f} | {wall * 1e3:.1f} | {start:.1f} | {peak:.0f} "
            f"| {statistics.median(ratios):.2f} | {min(ratios):.2f} to {max(ratios):.2f} |"
        )


if __name__ == "__main__":
    main()
