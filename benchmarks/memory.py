"""Peak memory of the job's process with many large images, against its --max-memory.

    python benchmarks/memory.py --image large.jpg [--count 400 --limits 512MiB 2GiB] -- FLAGS OF predict

It runs `flow-images predict` with the flags (`--server HOST:PORT --model-name dogs --wire encoded`) over links to one
image, and prints the most that the process had in memory at once (VmHWM, so on Linux).
"""

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from serving.text.sizes import parse_byte_size
from tests.faults.jobs import peak_memory


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", type=Path, required=True)
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--limits", nargs="+", default=["512MiB", "1GiB", "2GiB"])
    parser.add_argument("flags", nargs="*")
    options = parser.parse_args()
    print("| --max-memory | peak, MiB | share |\n| --- | --- | --- |")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "in").mkdir()
        for number in range(options.count):
            (folder / "in" / f"{number:06}{options.image.suffix}").symlink_to(options.image.resolve())
        for limit in options.limits:
            output = ("--output", folder / "out", "--fresh")
            most = peak_memory("--input", folder / "in", *output, "--max-memory", limit, *options.flags)
            print(f"| {limit} | {most / 2**20:.0f} | {most / parse_byte_size(limit):.2f} |", flush=True)


if __name__ == "__main__":
    main()
