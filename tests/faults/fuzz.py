"""A fuzz of the decoder path: damaged files of each kind in, a verdict out, whatever they hold.

    python -m tests.faults.fuzz --count 20000 --seed 1

Runs until the count is reached, and prints what became of the files. A crash or a hang leaves the number of the file
in `--progress`, and `--first N --count 1` repeats it.
"""

import argparse
import io
import json
import random
import resource
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

Kinds = Sequence[tuple[str, str, dict[str, object]]]
_KINDS: Kinds = [
    ("RGB", "JPEG", {}), ("RGB", "JPEG", {"progressive": True, "quality": 30}), ("L", "JPEG", {}), ("CMYK", "JPEG", {}),
    ("RGB", "PNG", {}), ("RGBA", "PNG", {}), ("P", "PNG", {}), ("I;16", "PNG", {}), ("1", "PNG", {}),
    ("P", "GIF", {}), ("P", "GIF", {"save_all": True}), ("RGB", "BMP", {}), ("P", "BMP", {}), ("1", "BMP", {}),
    ("RGB", "WEBP", {}), ("RGBA", "WEBP", {"lossless": True}), ("RGB", "WEBP", {"save_all": True}),
]  # fmt: skip


def draw_files() -> list[bytes]:
    """A whole file of each kind."""
    chance = np.random.default_rng(3)
    files = []
    for mode, kind, options in _KINDS:
        frames = []
        for _ in range(3 if options.get("save_all") else 1):
            colours = chance.integers(0, 255, (5, 6, 3)).astype(np.uint8)
            image = Image.fromarray(colours).resize((61, 47), Image.Resampling.BICUBIC)
            frames.append(image.convert("I").convert("I;16") if mode == "I;16" else image.convert(mode))
        buffer = io.BytesIO()
        more = {"append_images": frames[1:]} if len(frames) > 1 else {}
        frames[0].save(buffer, kind, **options, **more)
        files.append(buffer.getvalue())
    return files


def damage(files: Sequence[bytes], chance: random.Random) -> bytes:
    """One of the files, damaged once or a few times."""
    data = bytearray(chance.choice(files))
    for _ in range(chance.choice([1, 1, 2, 4, 16])):
        # Half of the damage goes into the first bytes, where sizes and tables are.
        place = chance.randrange(min(len(data), 64) if chance.random() < 0.5 else len(data)) if data else 0
        match chance.randrange(7):
            case 0:
                data[place : place + 1] = bytes([chance.randrange(256)])
            case 1:
                del data[place:]
            case 2:
                other = chance.choice(files)
                data[place:] = other[chance.randrange(len(other)) :]
            case 3:
                del data[place : place + chance.randrange(1, 64)]
            case 4:
                data[place:place] = data[place : place + chance.randrange(1, 256)]
            case 5:
                data[place : place + 4] = chance.choice([b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff"])
            case _:
                data[place : place + 1] = bytes([(data[place] if place < len(data) else 0) ^ 1 << chance.randrange(8)])
    return bytes(data)


def verdict(decode: object, data: bytes) -> str:
    """`decoded`, or the reason of the rejection."""
    from serving.images.limits import ImageRejected

    try:
        decode(data)  # type: ignore[operator]
    except ImageRejected as error:
        return error.reason if error.message else "without a message"
    return "decoded"


def main() -> None:
    """Fuzzes, and prints a JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--progress", type=Path)
    options = parser.parse_args()

    from serving.contract import Preprocessing
    from serving.images.encoder import make_encoder
    from serving.images.limits import ImageLimits

    limits = ImageLimits(max_image_pixels=4_000_000)
    decode = make_encoder(Preprocessing(height=64, width=64, orientation="exif"), "float32", limits)
    files = draw_files()
    assert {verdict(decode, data) for data in files} == {"decoded", "unsupported_format"}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found: Counter[str] = Counter()
    slowest, started = 0.0, time.perf_counter()
    for number in range(options.first, options.first + options.count):
        if options.progress:
            options.progress.write_text(str(number))
        one = time.perf_counter()
        found[verdict(decode, damage(files, random.Random(f"{options.seed}-{number}")))] += 1
        slowest = max(slowest, time.perf_counter() - one)
    print(json.dumps({
        "files": options.count, "seconds": round(time.perf_counter() - started, 1), "slowest_s": round(slowest, 3),
        "verdicts": dict(found.most_common()),
        "memory_growth_mib": round((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
