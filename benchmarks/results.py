"""What is done with the results of a run, per image and as a ratio to reading its parts, in one run on one machine.

    python benchmarks/results.py [--images 100000]

The parts are written by this script: five of 120 labels for each image, and 64 images under many names.
"""

import argparse
import datetime
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

LABELS = [f"breed_{number:03}" for number in range(120)]
DRAWN = 64
READ = """
import sys
from beam_jobs.plan import RunFolder
from beam_jobs.results import rows_with_outcomes
from serving.storage.disk import Disk
folder = RunFolder(Disk(), sys.argv[1])
plan = folder.load_plan()
for _ in rows_with_outcomes(folder, plan, folder.parts(plan)):
    pass
"""


def draw(folder: Path) -> None:
    """Writes the images."""
    import numpy as np
    from PIL import Image

    folder.mkdir()
    chance = np.random.default_rng(0)
    for number in range(DRAWN):
        pixels = chance.integers(0, 256, (12, 16, 3), np.uint8).repeat(20, 0).repeat(20, 1)
        Image.fromarray(pixels).save(folder / f"{number}.jpg")


def predict(images: Path, output: Path, count: int) -> None:
    """Writes the plan, the list and the parts of a run, with answers by chance."""
    import numpy as np

    from beam_jobs.chunk_size import MAX_CHUNK_ROWS
    from beam_jobs.listing import Listed
    from beam_jobs.parts import Outcome
    from beam_jobs.plan import Plan, PlannedModel, ResultOptions, RunFolder
    from beam_jobs.sorted_images import sort_images
    from serving.contract import ModelContract, Preprocessing
    from serving.storage.disk import Disk

    names = (f"{images}/{number:07}.jpg" for number in range(count))
    listed = [Listed(name, label=LABELS[number % len(LABELS)]) for number, name in enumerate(names)]
    file = io.BytesIO()
    manifest = sort_images(listed, file).cut(MAX_CHUNK_ROWS)
    folder = RunFolder(Disk(), str(output))
    folder.store_manifest(manifest, file)
    options = ResultOptions(
        inputs=[str(images)], wire="encoded", top_k=5, format="csv", max_image_bytes=2**26, max_image_pixels=10**8,
        shards=1,
    )  # fmt: skip
    contract = ModelContract(labels=LABELS, preprocessing=Preprocessing(height=224, width=224))
    model = PlannedModel(name="m", version=1, contract=contract)
    now = datetime.datetime.now(datetime.UTC)
    plan = folder.adopt_plan(Plan(started=now, options=options, model=model, manifest=manifest))
    chance, parts = np.random.default_rng(0), folder.parts(plan)
    for chunk in range(manifest.chunks):
        rows = manifest.rows_in(chunk)
        best = np.sort(chance.dirichlet(np.full(5, 0.3), rows))[:, ::-1].round(6).tolist()
        classes = chance.permuted(np.tile(np.arange(len(LABELS)), (rows, 1)), axis=1)[:, :5].tolist()
        parts.write(0, chunk, [Outcome(row, "predicted", classes[row], best[row]) for row in range(rows)])


def run(command: list[str]) -> tuple[float, float, float]:
    """CPU and wall seconds of a command, and the megabytes that it took."""
    start = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=os.environ | {"PYTHONPATH": sys.path[0]})
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    return used.ru_utime + used.ru_stime, time.monotonic() - start, used.ru_maxrss / 1024


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    count = parser.parse_args().images
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        images, output = root / "images", root / "out"
        draw(images)
        predict(images, output, count)
        for number in range(count):  # links, which all commands read as the files themselves
            (images / f"{number:07}.jpg").symlink_to(f"{number % DRAWN}.jpg")
        flow = [sys.executable, "-m", "flow_images"]
        merge = [*flow, "merge", "--output", str(output)]
        commands = {
            "reading the parts": [sys.executable, "-c", READ, str(output)],
            "merge, csv": [*merge, "--format", "csv"],
            "merge, csv with a threshold": [*merge, "--threshold", "0.6"],
            "merge, jsonl": [*merge, "--format", "jsonl"],
            "merge, parquet": [*merge, "--format", "parquet"],
            "merge, all three": [*merge, "--format", "csv,jsonl,parquet"],
            "check, all three": [*flow, "check", str(output)],
            "sort, links": [*flow, "sort", str(output), "--into", str(root / "sorted")],
            "sort again": [*flow, "sort", str(output), "--into", str(root / "sorted")],
            "report with thumbnails": [*flow, "report", str(output)],
        }
        costs = {name: run(command) for name, command in commands.items()}
        sizes = {path.name: path.stat().st_size for path in output.iterdir() if path.is_file()}
    print(
        f"{count:,} images\n\n| what | CPU s | wall s | ratio of CPU | largest, MB |\n| --- | --- | --- | --- | --- |"
    )
    for name, (cpu, wall, peak) in costs.items():
        print(f"| {name} | {cpu:.1f} | {wall:.1f} | {cpu / costs['reading the parts'][0]:.1f} | {peak:.0f} |")
    print(f"\nbytes: {json.dumps(sizes)}")


if __name__ == "__main__":
    main()
