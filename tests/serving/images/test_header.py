"""What an image costs is known before it is decoded, as TensorFlow decodes it, in Python and in the graph."""

import io
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from serving.contract import Preprocessing
from serving.errors import UsageError
from serving.images.decoding_cost import decoding_cost
from serving.images.encoder import make_encoder
from serving.images.header import GIF_FRAME, BadHeader, Undecodable, needed_bytes, read_header
from serving.images.limits import ImageLimits, ImageRejected, inspect_image
from serving.images.preprocessing import decode_batch
from tests.faults.fuzz import damage, draw_files
from tests.hostile import compressed_text, gif_of_frames, gif_with_remarks, jpeg_of_scans, png_with, webp_of_codes

SMALL = Preprocessing(height=32, width=24)
LIMITS = ImageLimits(max_image_pixels=4_000_000)


@tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
def cost(files: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    return decoding_cost(files, LIMITS)


def decoded(data: bytes) -> np.ndarray | None:
    """TensorFlow's pixels, or None where it refuses the file."""
    try:
        pixels: np.ndarray = tf.io.decode_image(data, channels=3, expand_animations=False).numpy()
    except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError, UnicodeDecodeError):
        return None
    return pixels


def reason(data: bytes, limits: ImageLimits = LIMITS) -> str:
    with pytest.raises(ImageRejected) as error:
        inspect_image(data, limits)
    assert error.value.message
    return error.value.reason


def agrees(data: bytes) -> bool:
    """Checks a file of which TensorFlow is not asked more than the limit; True if it decodes it."""
    try:
        header = read_header(data)
    except Undecodable:  # some of which TensorFlow decodes to other pixels than are in it
        return False
    except BadHeader:
        assert decoded(data) is None
        return False
    if header.pixels > LIMITS.max_image_pixels or (pixels := decoded(data)) is None:
        return False
    assert (header.height, header.width) == pixels.shape[:2]
    if header.end < len(data):
        np.testing.assert_array_equal(decoded(needed_bytes(data, header)), pixels)
    return True


def damaged(count: int, seed: str) -> list[bytes]:
    files = draw_files()
    return [*files, *(damage(files, random.Random(f"{seed}-{number}")) for number in range(count))]


def test_sizes_are_those_that_tensorflow_decodes() -> None:
    assert sum(map(agrees, damaged(3000, "sizes"))) > 300


def test_sizes_of_real_photos_and_awkward_files(shared_data: Path) -> None:
    files = [path for path in shared_data.glob("[ap]*/**/*") if path.is_file()]
    assert sum(agrees(path.read_bytes()) for path in files) > 150


def test_the_graph_reads_what_python_reads() -> None:
    files = [
        *damaged(1500, "graph"), jpeg_of_scans(1800, 1900, 60), jpeg_of_scans(1800, 1900, 20),
        gif_of_frames((40, 30, 5)), gif_of_frames((10, 10, 1), (60, 20, 3), (20, 60, 2)),
        gif_of_frames((9, 9, 1), (1500, 1500, 2)),
        png_with(compressed_text(7_000_000)), png_with(*[compressed_text(7_000_000)] * 20),
        png_with((b"abCd", b"kk"), before=True), png_with((b"iTXt", b"a\0\0\0\0\0b")),
        png_with((b"tEXt", b"a" * 200_000)),
        gif_with_remarks(300), gif_with_remarks(1_400_000), gif_with_remarks(1_600_000), webp_of_codes(64, 256),
        jpeg_of_scans(1, 65_500, 100), jpeg_of_scans(1, 65_500, 300), b"", b"x",
    ]  # fmt: skip
    memory, needed = (part.numpy().tolist() for part in cost(tf.constant(files)))
    accepted = 0
    for data, its_memory, its_needed in zip(files, memory, needed, strict=True):
        try:
            header = inspect_image(data, LIMITS)
        except ImageRejected as error:
            if error.reason in ("too_many_pixels", "too_costly") or "a BMP with a palette" in error.message:
                assert its_memory <= 0
        else:
            accepted += 1
            assert its_needed == needed_bytes(data, header)
            # Chunks of a small PNG that its decoder keeps are not looked at in the graph.
            least = header.memory - 2 * len(data) if header.format == "PNG" else header.memory
            assert least <= its_memory <= header.memory
    assert accepted > 300


def test_what_is_beside_the_pixels_is_counted() -> None:
    for data, least in (
        (webp_of_codes(256, 4096), 4096 * 5_500),
        (gif_with_remarks(100_000), 100_000 * 56),
        (gif_of_frames((1, 1, 1000), (2, 2, 1)), 1000 * 100),
        (png_with((b"iTXt", b"a\0\1\0\0\0" + zlib.compress(bytes(7_000_000)))), 7_000_000),
        (png_with((b"tEXt", b"a\0" + b"b" * 5_000_000)), 10_000_000),
    ):
        assert agrees(data)
        assert least < inspect_image(data, LIMITS).memory < 5 * least
    assert reason(gif_with_remarks(2_000_000)) == "too_costly"
    after = gif_of_frames((9, 9, 1))[:-1] + gif_with_remarks(2_000_000)[19:]
    assert inspect_image(after, LIMITS).memory < 1000  # remarks behind the only frame that matters are cut off


def test_a_narrow_jpeg_is_whole_blocks_wide() -> None:
    data = jpeg_of_scans(1, 65_500, 300)
    assert reason(data) == "too_costly"
    assert read_header(data).pixels == 65_500
    assert read_header(data).passes == 300 * 8 * 65_504


def test_a_sequential_jpeg_whose_only_scan_lacks_a_component_is_kept_whole() -> None:
    stream = io.BytesIO()
    Image.new("RGB", (640, 480)).save(stream, "JPEG", subsampling=0)
    data = bytearray(stream.getvalue())
    scan = data.index(b"\xff\xda")
    data[scan : scan + 14] = b"\xff\xda\0\x08\1\1\0\0\x3f\0"
    assert agrees(bytes(data))
    assert read_header(bytes(data)).memory == 9 * 640 * 480
    assert cost(tf.constant([bytes(data)]))[0].numpy().tolist() == [9 * 640 * 480]


def test_an_animation_costs_its_first_frame() -> None:
    data = gif_of_frames((300, 200, 80))
    header = inspect_image(data, ImageLimits(max_image_pixels=60_000))
    assert (header.width, header.height, header.frames, header.memory) == (300, 200, 1, 4 * 60_000 + GIF_FRAME)
    assert len(needed_bytes(data, header)) < len(data) / 50
    assert agrees(data)
    assert make_encoder(SMALL, "encoded", ImageLimits())(data) == needed_bytes(data, header)


def test_frames_that_change_the_canvas_are_counted() -> None:
    data = gif_of_frames((10, 10, 1), (300, 200, 40))
    assert agrees(data)
    assert inspect_image(data, LIMITS).pixels == 100 + 40 * 60_000
    assert reason(gif_of_frames((10, 10, 1), (300, 200, 80))) == "too_many_pixels"
    # Two thin frames span a canvas that is larger than both.
    assert reason(gif_of_frames((9000, 1, 1), (1, 9000, 1))) == "too_many_pixels"


def test_scans_are_bounded_by_the_size() -> None:
    ordinary = io.BytesIO()
    Image.new("RGB", (2000, 2000)).save(ordinary, "JPEG", progressive=True)
    assert 5 < inspect_image(ordinary.getvalue(), LIMITS).scans < 20
    many = jpeg_of_scans(64, 48, 3000)
    assert inspect_image(many, LIMITS).scans == 3000
    assert agrees(many)
    with pytest.raises(ImageRejected, match=r"2000 x 1990 pixels in 40 scans.*`max_image_pixels`") as error:
        inspect_image(jpeg_of_scans(2000, 1990, 40), LIMITS)
    assert error.value.reason == "too_costly"


@pytest.mark.parametrize("progressive", [False, True])
def test_markers_inside_segments_and_behind_the_end_are_no_scans(progressive: bool) -> None:
    stream = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (40, 60, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(stream, "JPEG", progressive=progressive)
    data = stream.getvalue()
    thumbnail = b"\xff\xd8\xff\xc0\0\x11\x08\xff\xff\xff\xff\3" + b"\xff\xda\0\x0c" * 100
    segment = b"\xff\xe5" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    odd = data[:2] + segment + b"\xff\xff\xff" + data[2:] + b"\xff\xda" * 1000
    assert agrees(odd)
    assert read_header(odd).scans == read_header(data).scans < 20
    assert read_header(odd).width == 60


def test_sequential_scans_of_one_component_each_are_counted_too() -> None:
    data = bytearray(jpeg_of_scans(64, 48, 3))
    frame = data.index(b"\xff\xc2")
    data[frame + 1] = 0xC0
    data[frame + 9 : frame + 10] = b"\2"  # two components, so the first scan lacks one
    data[frame + 13 : frame + 13] = b"\2\x11\0"
    data[frame + 3] += 3
    header = read_header(bytes(data))
    assert header.scans == 3
    assert header.memory > 4 * header.pixels


def test_a_png_with_much_text_is_predicted_and_one_with_a_bomb_is_not() -> None:
    text = png_with(compressed_text(2_000_000), (b"tEXt", b"Title\0" + b"x" * 2_000_000))
    assert agrees(text)
    assert make_encoder(SMALL, "float32", ImageLimits())(text).shape == (32, 24, 3)  # type: ignore[union-attr]
    assert reason(png_with(*[compressed_text(7_900_000)] * 500), ImageLimits()) == "too_costly"


def test_no_librarys_limit_speaks() -> None:
    limits = ImageLimits(max_image_pixels=400_000_000)
    header = inspect_image(
        png_with(size=(1, 1)).replace(struct.pack(">II", 1, 1), struct.pack(">II", 19_000, 19_000)), limits
    )
    assert header.pixels == 361_000_000
    assert reason(png_with(size=(3000, 2000))) == "too_many_pixels"


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"II*\0", "TIFF"), (b"\0\0\0\x1cftypavif", "AVIF"), (b"\0\0\0\x18ftypheic", "HEIC"), (b"P6\n1 1\n", "Netpbm"),
        (b"\xff\x0a", "JPEG XL"), (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    ],
)  # fmt: skip
def test_other_formats_are_named(data: bytes, name: str) -> None:
    with pytest.raises(ImageRejected, match=f"{name} images can't be decoded") as error:
        inspect_image(data + bytes(50), LIMITS)
    assert error.value.reason == "unsupported_format"


def drawn(kind: str, mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (30, 20), "red").convert(mode).save(buffer, kind)
    return buffer.getvalue()


def reframed(marker: int = 0xC0, bits: int = 8, size: tuple[int, int] = (30, 20), mode: str = "RGB") -> bytes:
    """A JPEG that says other things of itself."""
    data = drawn("JPEG", mode)
    place = data.index(b"\xff\xc0")
    frame = struct.pack(">BBHBHH", 0xFF, marker, *struct.unpack_from(">H", data, place + 2), bits, *size[::-1])
    return data[:place] + frame + data[place + 9 :]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (reframed(bits=12), "a JPEG with 12 bits a sample"), (reframed(marker=0xC3), "a JPEG without loss"),
        (reframed(marker=0xC5), "or in a hierarchy"), (drawn("BMP", "1"), "a BMP of 1 bits a pixel"),
        (drawn("BMP", "P"), "a BMP with a palette"),
        (drawn("BMP")[:30] + struct.pack("<I", 1) + drawn("BMP")[34:], "a BMP of OS/2, or with compressed pixels,"),
        (drawn("BMP")[:14] + struct.pack("<I", 12) + drawn("BMP")[18:], "a BMP of OS/2"),
    ],
)  # fmt: skip
def test_a_kind_that_tensorflow_cannot_decode_is_named(data: bytes, told: str) -> None:
    with pytest.raises(ImageRejected, match=f"{told}.* can't be decoded; save it") as error:
        inspect_image(data, LIMITS)
    assert error.value.reason == "unsupported_format"
    _, ok = decode_batch(tf.constant([data]), SMALL)
    assert not ok.numpy().any()


def test_a_grey_bmp_is_decoded_whatever_its_depth() -> None:
    for mode in ("L", "RGB", "RGBA"):
        grey = Image.linear_gradient("L")
        grey.convert(mode).save(buffer := io.BytesIO(), "BMP")
        images, ok = decode_batch(tf.constant([buffer.getvalue()]), Preprocessing(height=256, width=256))
        assert ok.numpy().all()
        np.testing.assert_allclose(images[0, ..., 0] * 255, np.asarray(grey), atol=1e-3)
        assert inspect_image(buffer.getvalue(), LIMITS).format == "BMP"


@pytest.mark.parametrize(
    ("data", "most"),
    [
        (lambda size: reframed(size=size), 178_956_970), (lambda size: reframed(size=size, mode="L"), 536_870_911),
        (lambda size: reframed(size=size, mode="CMYK"), 134_217_727), (lambda size: png_with(size=size), 536_870_911),
        (lambda size: drawn("BMP")[:18] + struct.pack("<ii", *size) + drawn("BMP")[26:], 357_913_941),
    ],
)  # fmt: skip
def test_tensorflows_own_bound_is_told_whatever_the_limit(data: Callable[[tuple[int, int]], bytes], most: int) -> None:
    limits = ImageLimits(max_image_pixels=2**29 - 1)
    width = 60_000
    assert inspect_image(data((width, most // width)), limits).pixels <= most
    over = data((width, -(-(most + 1) // width)))
    with pytest.raises(ImageRejected, match="over the ") as error:
        inspect_image(over, limits)
    assert error.value.reason == "too_many_pixels"
    assert f"{min(most, 2**29 - 1):,}" in error.value.message
    assert decoded(over) is None
    with pytest.raises(UsageError, match="`max_image_pixels` must be from 1 to 536,870,911"):
        ImageLimits(max_image_pixels=2**29)


@pytest.mark.parametrize(
    "data",
    [
        lambda: b"\xff\xd8\xff", lambda: b"GIF89a", lambda: b"GIF89a" + bytes(20), lambda: b"BM",
        lambda: b"RIFF\0\0\0\0WEBP", lambda: b"RIFF\0\0\0\0WEBPVP8 ", lambda: b"\x89PNG\r\n\x1a\n",
        lambda: png_with(size=(0, 5)), lambda: b"\xff\xd8" + b"\xff\xe0\0\2" * 100_000,
        lambda: b"\xff\xd8" + b"\xff" * 1_000_000,
    ],
)  # fmt: skip
def test_a_header_without_a_size_is_no_image(data: Callable[[], bytes]) -> None:
    assert reason(data()) == "not_an_image"
    _, ok = decode_batch(tf.constant([data()]), SMALL)
    assert ok.numpy().tolist() == [False]


def test_a_row_over_the_limits_is_not_decoded_and_costs_no_other() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (30, 20), "red").save(buffer, "PNG")
    files = [buffer.getvalue(), jpeg_of_scans(2000, 1990, 40), gif_of_frames((10, 10, 1), (1500, 1500, 2)),
             png_with(size=(3000, 2000)), gif_of_frames((300, 200, 80)), jpeg_of_scans(64, 48, 300)]  # fmt: skip
    images, ok = decode_batch(tf.constant(files), SMALL, LIMITS)
    assert ok.numpy().tolist() == [True, False, False, False, True, True]
    np.testing.assert_allclose(images[0, 0, 0], [1, 0, 0])
    np.testing.assert_allclose(images[4], np.tile([1.0, 0.0, 0.0], (32, 24, 1)))


def test_large_rows_wait_for_each_other_and_a_damaged_one_lets_the_next_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.images.preprocessing.DECODING_MEMORY", 50_000)
    large = jpeg_of_scans(200, 200, 3)
    files = [large, large[:-40], png_with(size=(20, 10)), large]
    for _ in range(2):
        _, ok = decode_batch(tf.constant(files), SMALL)
        assert ok.numpy().tolist() == [True, False, True, True]
