"""Says what a file is that is an image in none of the five formats, as far as its first bytes tell.

A login page under an image's name, a pointer of Git LFS, a file that is still packed: who is told what lies there knows
what to do.
"""

import base64
import binascii
import codecs
import re
import struct

from serving.images.header import FORMATS, file_format

_HEAD = 2048
"""Bytes that are looked at."""
_MAGIC = (
    (b"II+\0", "TIFF"), (b"MM\0+", "TIFF"),
    (b"IIRO", "camera RAW"), (b"IIRS", "camera RAW"), (b"MMOR", "camera RAW"), (b"IIU\0", "camera RAW"),
    (b"FUJIFILMCCD-RAW", "camera RAW"), (b"FOVb", "camera RAW"), (b"\0MRM", "camera RAW"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"), (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"), (b"\xff\x0a", "JPEG XL"), (b"II\xbc\x01", "JPEG XR"),
    (b"8BPS", "Photoshop"), (b"%PDF", "PDF"), (b"qoif", "QOI"), (b"DDS ", "DDS"), (b"icns", "ICNS"),
    (b"\x76\x2f\x31\x01", "OpenEXR"), (b"\xd7\xcd\xc6\x9a", "WMF"), (b"%!PS", "PostScript"),
    *((b"P%d%c" % (kind, blank), "Netpbm") for kind in range(1, 8) for blank in b" \t\r\n"),
)  # fmt: skip
"""Images that people have, but no server decodes."""
_BRANDS = {
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"), "HEIC"),
    **dict.fromkeys((b"mif1", b"msf1"), "HEIF"),
    b"crx ": "camera RAW",
}
"""What a file in ISO's base media format is, by the brand in its first box; with another brand it is a video."""
_NO_IMAGES = (
    (b"version https://git-lfs.github.com/spec/", "a Git LFS pointer: the file itself was not fetched (git lfs pull)"),
    (b"\x1f\x8b", "gzip data: unpack it"),
    (b"PK\3\4", "a zip archive: unpack it"),
    (b"BZh", "bzip2 data: unpack it"),
    (b"\xfd7zXZ\0", "xz data: unpack it"),
    (b"\x28\xb5\x2f\xfd", "zstd data: unpack it"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive: unpack it"),
    (b"Rar!", "a RAR archive: unpack it"),
    (b"\0\5\x16\7", "what macOS keeps beside a file (AppleDouble)"),
    (b"\x1a\x45\xdf\xa3", "a Matroska or WebM video"),
    (b"\x93NUMPY", "a NumPy array"),
)
_HTML = re.compile(rb"<(!doctype\s+html|html|head|body|title|script|meta)\b", re.IGNORECASE)
_JSON = re.compile(rb'(\{\s*["}]|\[\s*["{\[\]\d])')
_BASE64 = re.compile(rb"(data:[\w/+.-]+;base64,)?([A-Za-z0-9+/\r\n]{32,})")
_TEXT = re.compile(rb"[\t\n\r\x20-\x7e\x80-\xff]+")


def what_it_is(data: bytes) -> tuple[str, str]:
    """Why a file is rejected that `file_format` doesn't know: the reason, for scripts, and a message."""
    if name := _other_image(data):
        return (
            "unsupported_format", f"{name} images can't be decoded; {', '.join(FORMATS[:-1])} and {FORMATS[-1]} can"
        )  # fmt: skip
    other = _no_image(data)
    return "not_an_image", f"the bytes are not an image{f', but {other}' if other else ' in any known format'}"


def _other_image(data: bytes) -> str | None:
    if data[4:8] == b"ftyp":
        return _BRANDS.get(data[8:12])
    if data[:4] in (b"II*\0", b"MM\0*"):
        return "camera RAW" if _is_raw(data) else "TIFF"
    if data[:4] in (b"\0\0\1\0", b"\0\0\2\0") and data[4:6] not in (b"", b"\0\0"):  # the number of images in it
        return "ICO" if data[2] == 1 else "CUR"
    if re.match(rb"(<\?xml.*?\?>\s*)?(<!--.*?-->\s*)*(<!doctype svg[^>]*>\s*)?<svg\b", _text(data), re.I | re.S):
        return "SVG"
    return next((name for magic, name in _MAGIC if data.startswith(magic)), None) or ("TGA" if _is_tga(data) else None)


def _no_image(data: bytes) -> str | None:
    if data[4:8] == b"ftyp" or (data[:4] == b"RIFF" and data[8:12] == b"AVI "):
        return "a video"
    if data[257:262] == b"ustar":
        return "a tar archive: unpack it"
    known = next((name for magic, name in _NO_IMAGES if data.startswith(magic)), None)
    text = _text(data)
    if known or not _TEXT.fullmatch(text):
        return known
    if text.startswith(b"<"):
        return "an HTML page, such as one for a login or an error" if _HTML.search(text) else "an XML text"
    if _JSON.match(text):
        return "a JSON text"
    found = _BASE64.match(text)
    if found and (found[1] or (kind := _packed(found[2]))):
        return f"base64 text{'' if found[1] else f' of a {kind}'}: decode it"
    return "a text" if _is_utf8(text) else None


def _is_utf8(beginning: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(beginning)  # the last character may be cut
    except UnicodeDecodeError:
        return False
    return True


def _text(data: bytes) -> bytes:
    """The beginning, if it is a text, in UTF-8 and without a mark and blanks before it."""
    head = data[:_HEAD]
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        head = head.decode("utf-16", "ignore").encode()
    return head.removeprefix(codecs.BOM_UTF8).lstrip()


def _packed(text: bytes) -> str | None:
    """The format of an image whose base64 text this is."""
    try:
        return file_format(base64.b64decode(b"".join(text.split())[:32]))
    except binascii.Error:
        return None


_MAKE, _SUB_IFDS, _DNG_VERSION = 0x010F, 0x014A, 0xC612


def _is_raw(data: bytes) -> bool:
    """Is a TIFF what a camera writes of its sensor: DNG, CR2, or with its maker's name and images below the first?"""
    order = "<" if data[:2] == b"II" else ">"
    try:
        (place,) = struct.unpack_from(f"{order}I", data, 4)
        (count,) = struct.unpack_from(f"{order}H", data, place)
        tags = {struct.unpack_from(f"{order}H", data, place + 2 + 12 * entry)[0] for entry in range(count)}
    except struct.error:
        tags = set()
    return data[8:10] == b"CR" or _DNG_VERSION in tags or {_MAKE, _SUB_IFDS} <= tags


def _is_tga(data: bytes) -> bool:
    """TGA has no magic bytes: its header has to make sense, or its footer is there (Truevision 2.0)."""
    if data[-18:] == b"TRUEVISION-XFILE.\0":
        return True
    if len(data) < 18:
        return False
    _, has_map, kind, map_start, map_length, map_bits, _, _, width, height, bits, flags = struct.unpack_from(
        "<BBBHHBHHHHBB", data
    )
    if has_map:
        is_sound = kind in (1, 9) and map_length > 0 and map_bits in (15, 16, 24, 32) and bits in (8, 16)
    else:
        is_sound = (map_start, map_length, map_bits) == (0, 0, 0) and (
            (kind in (2, 10) and bits in (15, 16, 24, 32)) or (kind in (3, 11) and bits in (8, 16))
        )
    return is_sound and width > 0 and height > 0 and flags < 0x40
