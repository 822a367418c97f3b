"""Peak memory of the job's process with many large pictures, against its --max-memory.

    python benchmarks/memory.py --picture large.jpg [--count 400 --limits 512MiB 2GiB] -- FLAGS OF predict

It runs `flow-images predict` with the flags (`--server HOST:PORT --model-name dogs --wire encoded`) over links to one
picture, and prints the most that the process had in memory at once (VmHWM, so on Linux).
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from serving.console.flag_values import parse_byte_size

JOB = """
import os, flow_images
try:
    flow_images.cli.main()
finally:
    peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    open(os.environ["PEAK"], "w").write(peak.split()[1])
"""


def peak(folder: Path, limit: str, flags: list[str]) -> int:
    """Most bytes that a job over the folder's pictures had in memory at once."""
    command = [sys.executable, "-c", JOB, "predict", "--input", str(folder / "in"), "--output", str(folder / "out"),
               "--fresh", "--max-memory", limit, *flags]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, env=os.environ | {"PEAK": str(folder / "peak")})
    return 1024 * int((folder / "peak").read_text())


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--picture", type=Path, required=True)
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--limits", nargs="+", default=["512MiB", "1GiB", "2GiB"])
    parser.add_argument("flags", nargs="*")
    options = parser.parse_args()
    print("| --max-memory | peak, MiB | share |\n| --- | --- | --- |")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "in").mkdir()
        for number in range(options.count):
            (folder / "in" / f"{number:06}{options.picture.suffix}").symlink_to(options.picture.resolve())
        for limit in options.limits:
            most = peak(folder, limit, options.flags)
            print(f"| {limit} | {most / 2**20:.0f} | {most / parse_byte_size(limit):.2f} |", flush=True)


if __name__ == "__main__":
    main()
