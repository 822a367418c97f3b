"""What resuming, checks and limits cost, as ratios and counts measured in one run on one machine.

    python benchmarks/resume.py [--images 3072] [--paths 1000000] [--only ledger latency kill listing]

A real server in a process of its own answers with MobileNetV2 0.35 at 128 pixels: small, so that the job's own costs
show. Files travel encoded; the images are drawn.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

NAME, LABELS, SIZE = "mobile", 1000, 128
ROUNDS = 3
BATCH = 32
READ_DELAY_S = 0.05


def export(folder: str) -> None:
    """Writes the model, which decodes files itself, and its labels."""
    import tensorflow as tf
    import tf_keras

    network = tf_keras.applications.MobileNetV2(input_shape=(SIZE, SIZE, 3), alpha=0.35, weights=None, classes=LABELS)

    def one(data: tf.Tensor) -> tf.Tensor:
        image = tf.image.convert_image_dtype(tf.io.decode_jpeg(data, 3), tf.float32)
        return tf.image.resize(image, [SIZE, SIZE])

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="files")])
    def classify(files: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probabilities": network(tf.map_fn(one, files, fn_output_signature=tf.float32), training=False)}

    module = tf.Module()
    module.network, module.classify = network, classify
    tf.saved_model.save(module, f"{folder}/{NAME}/1", {"serving_default": classify})
    Path(folder, "labels.txt").write_text("".join(f"class {i}\n" for i in range(LABELS)))


def draw(folder: Path, count: int) -> Path:
    """Images: 64 drawn ones under many names."""
    import numpy as np
    from PIL import Image

    chance = np.random.default_rng(1)
    folder.mkdir()
    for number in range(count):
        path = folder / f"{number:06}.jpg"
        if number < 64:
            colours = Image.fromarray(chance.integers(0, 255, (24, 24, 3)).astype(np.uint8))
            colours.resize((256, 256), Image.Resampling.BICUBIC).save(path, quality=92)
        else:
            os.link(folder / f"{number % 64:06}.jpg", path)
    return folder


class Bench:
    """The server, the images and a way to run jobs."""

    def __init__(self, folder: Path, address: str, server_pid: int, images: Path) -> None:
        self.folder, self.address, self.images = folder, address, images
        self._processes = psutil.Process(), psutil.Process(server_pid)
        self.labels = str(folder / "labels.txt")
        self.output = folder / "out"
        self.count = len(list(images.iterdir()))

    def cpu_s(self) -> float:
        """CPU seconds of client and server so far, which other work on the machine disturbs less than its clock."""
        return sum(times.user + times.system for times in (one.cpu_times() for one in self._processes))

    def run(self) -> float:
        """Seconds of a whole job in this process, on a new output."""
        from beam_jobs.predict_options import PredictOptions
        from beam_jobs.run import Run
        from serving.client.client_options import Endpoint

        shutil.rmtree(self.output, ignore_errors=True)
        endpoint = Endpoint(address=self.address, model_name=NAME)
        options = PredictOptions(
            inputs=(str(self.images),), output=str(self.output), wire="encoded",
            labels=self.labels, image_size=(SIZE, SIZE),
        )  # fmt: skip
        started = time.perf_counter()
        account = Run(options, lambda *_: contextlib.nullcontext(endpoint)).execute()
        seconds = time.perf_counter() - started
        assert account
        assert account.predicted == account.listed
        return seconds

    def start(self) -> subprocess.Popen[bytes]:
        """The same job as a process of its own."""
        return subprocess.Popen(
            [
                sys.executable,
                "-m",
                "flow_images",
                "predict",
                "--server",
                self.address,
                "--model-name",
                NAME,
                "--labels",
                self.labels,
                "--image-size",
                str(SIZE),
                "--wire",
                "encoded",
                "--input",
                str(self.images),
                "--output",
                str(self.output),
            ],
            stdout=subprocess.DEVNULL,
        )

    @property
    def rows_committed(self) -> int:
        """Rows in parts."""
        parts = self.output.glob("_state/parts/*/0-*.jsonl")
        return sum(len(path.read_text().splitlines()) - 1 for path in parts)  # the last line is the checksum


def measure_ledger(bench: Bench) -> dict[str, Any]:
    """Runs with parts against runs that keep their outcomes in memory and write the CSV from there, in turns."""
    costs: dict[str, list[tuple[float, float]]] = {"with": [], "without": []}
    for _ in range(ROUNDS + 2):
        for name, context in (("without", outcomes_in_memory), ("with", contextlib.nullcontext)):
            before = bench.cpu_s()
            with context():
                took = bench.run()
            costs[name].append((bench.cpu_s() - before, took))
    cpu, wall = ({name: min(pair[i] for pair in pairs) for name, pairs in costs.items()} for i in (0, 1))
    return {
        "cpu_s": {name: round(value, 2) for name, value in cpu.items()},
        "wall_s": {name: round(value, 2) for name, value in wall.items()},
        "extra_cpu": round(cpu["with"] / cpu["without"] - 1, 4),
        "extra_wall": round(wall["with"] / wall["without"] - 1, 4),
    }


@contextlib.contextmanager
def outcomes_in_memory() -> Iterator[None]:
    """Parts that are nowhere: no JSON, no file, nothing to go on from."""
    from beam_jobs.parts import Parts

    held: dict[int, Any] = {}
    stand_ins = {
        "exists": lambda self, generation, chunk: chunk in held,
        "done": lambda self, generation: set(held),
        "write": lambda self, generation, chunk, outcomes: held.setdefault(chunk, outcomes) is outcomes,
        "latest": lambda self, chunk, rows, generations: held[chunk],
    }
    originals = {name: getattr(Parts, name) for name in stand_ins}
    try:
        for name, function in stand_ins.items():
            setattr(Parts, name, function)
        yield
    finally:
        for name, function in originals.items():
            setattr(Parts, name, function)


def measure_latency(bench: Bench) -> dict[str, Any]:
    """Local reads against reads that take 50 ms more each, in turns."""
    from serving.storage.base import Fetched
    from serving.storage.disk import Disk

    fetch = Disk.fetch

    def slow(self: Disk, path: str, limit: int | None = None) -> Fetched:
        if path.endswith(".jpg"):
            time.sleep(READ_DELAY_S)
        return fetch(self, path, limit)

    local, delayed = [], []
    for _ in range(ROUNDS):
        local.append(bench.run())
        Disk.fetch = slow  # type: ignore[method-assign]
        try:
            delayed.append(bench.run())
        finally:
            Disk.fetch = fetch  # type: ignore[method-assign]
    return {
        "local_s": round(min(local), 2),
        "delayed_s": round(min(delayed), 2),
        "throughput_ratio": round(min(local) / min(delayed), 3),
    }


def measure_kill(bench: Bench) -> dict[str, Any]:
    """kill -9 three times at random moments of the asking, then finished; against the same job left alone."""
    from tests.faults.front import Front

    def first_request(front: Front, process: subprocess.Popen[bytes]) -> float:
        asked, started = front.asked, time.perf_counter()
        while front.asked == asked and process.poll() is None:
            time.sleep(0.01)
        return time.perf_counter() - started

    real = bench.address
    with Front(real) as front:
        bench.address = front.address
        shutil.rmtree(bench.output, ignore_errors=True)
        process = bench.start()
        start_s = first_request(front, process)
        asking_s = -time.perf_counter()
        assert process.wait() == 0
        asking_s += time.perf_counter()
        needed, chance, kills, lost_s = front.asked, random.Random(4), [], 0.0
        shutil.rmtree(bench.output)
        for _ in range(3):
            before, asked = bench.rows_committed, front.asked
            process = bench.start()
            first_request(front, process)
            alive_s = chance.uniform(0.1, asking_s / 3)
            time.sleep(alive_s)
            process.kill()
            process.wait()
            kept = bench.rows_committed - before
            kills.append({"rows_asked": BATCH * (front.asked - asked), "rows_kept": kept})
            lost_s += max(0.0, alive_s - asking_s * kept / bench.count)
        assert bench.start().wait() == 0
        bench.address = real
    run = json.loads((bench.output / "run.json").read_text())
    assert run["predicted"] == bench.count
    return {
        "start_s": round(start_s, 1),
        "asking_s": round(asking_s, 1),
        "kills": kills,
        "rows_redone_a_kill": round(BATCH * (front.asked - 2 * needed) / 3),
        "seconds_redone_a_kill": round(lost_s / 3, 2),
    }


LISTING = """
import resource, sys, tempfile, time
from beam_jobs import listing, sorted_images
from serving.storage import base, stores
count, kind, path = int(sys.argv[1]), sys.argv[2], sys.argv[3]
class Bucket:
    def exists(self, path): return False
    def walk(self, folder, after=None):
        for i in range(count):
            yield base.FileInfo(f"s3://bucket/images/{i * 7919 % count:07}/photo-{i:07}.jpg", 4096)
where_it_is = (lambda _: Bucket()) if kind == "bucket" else stores.Stores()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
started = time.perf_counter()
where = "s3://bucket/images" if kind == "bucket" else path
with tempfile.TemporaryFile() as file:
    made = sorted_images.sort_images(listing.list_images([where], stores=where_it_is), file).cut(256)
assert made.listed == count
print(round(time.perf_counter() - started, 1), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def measure_listing(folder: Path, count: int) -> dict[str, Any]:
    """Time and memory of the manifest of many paths."""
    with open(folder / "list.txt", "w") as text, open(folder / "list.csv", "w") as table:
        table.write("path,id,label\n")
        for i in range(count):
            path = f"/bucket/images/{i * 7919 % count:07}/photo-{i:07}.jpg"
            text.write(path + "\n")
            table.write(f"{path},{i},cat\n")
    (folder / "many").mkdir()
    for i in range(count):
        (folder / "many" / f"photo-{i:07}.jpg").touch()
    found = {}
    for kind, name in (
        ("bucket", ""),
        ("txt", "list.txt"),
        ("csv", "list.csv"),
        ("folder", "many"),
        ("pattern", "many/*.jpg"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", LISTING, str(count), kind, str(folder / name)],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).resolve().parents[1],
        )
        seconds, mib = done.stdout.split()
        found[kind] = {"seconds": float(seconds), "memory_growth_mib": int(mib)}
    return found


def main() -> None:
    """Measures and prints JSON, a line a part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=3072)
    parser.add_argument("--paths", type=int, default=1_000_000)
    parser.add_argument("--only", nargs="*", default=["listing", "ledger", "latency", "kill"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="flow-images-") as name:
        folder = Path(name)
        if "listing" in options.only:
            print(json.dumps({"listing": measure_listing(folder, options.paths)}), flush=True)
        if set(options.only) == {"listing"}:
            return
        subprocess.run([sys.executable, __file__, "--export", name], check=True)
        images = draw(folder / "in", options.images)
        from serving.server import ServerProcess

        with ServerProcess(folder / NAME, model_name=NAME) as server:
            bench = Bench(folder, server.address, server.pid, images)
            bench.run()  # warms the server up
            for part, measure in (("ledger", measure_ledger), ("latency", measure_latency), ("kill", measure_kill)):
                if part in options.only:
                    print(json.dumps({part: measure(bench)}), flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--export"]:
        export(sys.argv[2])
    else:
        main()
