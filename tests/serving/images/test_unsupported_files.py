"""A file that is not an image in one of the five formats is called what it is."""

import base64
import bz2
import gzip
import io
import lzma
import struct
import tarfile
import zipfile

import pytest
from PIL import Image

from serving.images.limits import ImageLimits, ImageRejected, inspect_image


def image(kind: str, mode: str = "RGB", **options: object) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (24, 20), (5, 95, 187)).convert(mode).save(stream, kind, **options)
    return stream.getvalue()


def zipped() -> bytes:
    with zipfile.ZipFile(stream := io.BytesIO(), "w") as archive:
        archive.writestr("a.jpg", image("JPEG"))
    return stream.getvalue()


def tarred() -> bytes:
    with tarfile.open(fileobj=(stream := io.BytesIO()), mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a.jpg"))
    return stream.getvalue()


def tiff(*tags: int, order: str = "<") -> bytes:
    mark = {"<": b"II", ">": b"MM"}[order]
    entries = b"".join(struct.pack(f"{order}HHII", tag, 4, 1, 0) for tag in sorted(tags))
    return mark + struct.pack(f"{order}HIH", 42, 8, len(tags)) + entries + bytes(64)


def rejected(data: bytes) -> tuple[str, str]:
    with pytest.raises(ImageRejected) as error:
        inspect_image(data, ImageLimits())
    return error.value.reason, error.value.message


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"<!DOCTYPE html><html><head><title>Sign in</title>", "an HTML page, such as one for a login or an error"),
        (b"\xef\xbb\xbf\r\n <html lang='en'>", "an HTML page"),
        (b"<!-- saved --><HTML>", "an HTML page"),
        ("<html><body>é".encode("utf-16"), "an HTML page"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "an XML text"),
        (b'{"error": "not found"}', "a JSON text"),
        (b"[\n  {}]", "a JSON text"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "a Git LFS pointer: the file itself"),
        (gzip.compress(b"x", mtime=0), "gzip data"),
        (bz2.compress(b"x"), "bzip2 data"),
        (lzma.compress(b"x"), "xz data"),
        (zipped(), "a zip archive"),
        (tarred(), "a tar archive"),
        (base64.b64encode(image("JPEG")), "base64 text of a JPEG: decode it"),
        (base64.encodebytes(image("PNG")), "base64 text of a PNG: decode it"),
        (b"data:image/webp;base64," + base64.b64encode(image("WEBP")), "base64 text: decode it"),
        (b"not found: a.jpg\n", "a text"),
        (b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41", "a video"),
        (b"\0\5\x16\7\0\2\0\0Mac OS X        ", "what macOS keeps beside a file"),
    ],
)
def test_what_is_no_image_is_called_what_it_is(data: bytes, told: str) -> None:
    reason, message = rejected(data)
    assert reason == "not_an_image"
    assert message.startswith(f"the bytes are not an image, but {told}")


@pytest.mark.parametrize("data", [bytes(40), b"\x00\x01\x02\x03" * 40, b"\xfe\xed" * 20])
def test_what_nobody_knows_is_no_image(data: bytes) -> None:
    assert rejected(data) == ("not_an_image", "the bytes are not an image in any known format")


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (image("TIFF"), "TIFF"), (image("ICO"), "ICO"), (image("PPM"), "Netpbm"), (image("JPEG2000"), "JPEG 2000"),
        (b"\0\0\2\0\1\0" + bytes(16), "CUR"),
        (image("TGA"), "TGA"), (image("TGA", compression="tga_rle"), "TGA"), (image("TGA", "L"), "TGA"),
        (image("TGA", "P"), "TGA"), (image("TGA", "RGBA")[:-26], "TGA"), (image("TGA")[:-26], "TGA"),
        (b"\0\0\2\0" + bytes(8) + struct.pack("<HHBB", 24, 24, 24, 0) + bytes(1728), "TGA"),
        (tiff(0x0100, 0x010F), "TIFF"), (tiff(0x010F, 0x014A), "camera RAW"), (tiff(0xC612, order=">"), "camera RAW"),
        (b"II*\0\x10\0\0\0CR\2\0" + bytes(40), "camera RAW"), (b"IIU\0" + bytes(40), "camera RAW"),
        (b"FUJIFILMCCD-RAW 0201", "camera RAW"), (b"\0\0\0\x18ftypcrx \0\0\0\1", "camera RAW"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'>", "SVG"),
        (b"<?xml version='1.0'?>\n<!-- drawn -->\n<svg>", "SVG"),
        (b"<?xml version='1.0'?><!DOCTYPE svg PUBLIC '-//W3C//DTD SVG 1.1//EN' 'x'><svg>", "SVG"),
    ],
)  # fmt: skip
def test_images_of_other_formats_are_called_by_their_names(data: bytes, name: str) -> None:
    assert rejected(data) == (
        "unsupported_format", f"{name} images can't be decoded; JPEG, PNG, GIF, BMP and WebP can"
    )  # fmt: skip
