"""Says why an image can't be decoded, as far as its bytes tell."""

from serving.images.header import GIF_END, file_format

CUT_OFF = "the file is cut off"
NOT_DECODED = "the image can't be decoded; it is probably damaged"
_START_OF_SCAN, _END_OF_IMAGE = b"\xff\xda", b"\xff\xd9"
_RIFF_HEADER = 8


def why_not_decoded(sent: object) -> str:
    """The reason for an image that a decoder has refused.

    Args:
      sent: what was to be decoded; only the bytes of a file tell more.
    """
    return CUT_OFF if isinstance(sent, bytes) and _has_no_end(sent) else NOT_DECODED


def _has_no_end(data: bytes) -> bool:
    """Is what ends every whole file of its format missing? Programs may have written something behind the end."""
    match file_format(data):
        case "JPEG":
            return data.rfind(_END_OF_IMAGE) < data.rfind(_START_OF_SCAN)
        case "PNG":
            return b"IEND" not in data
        case "GIF":
            return not data.rstrip(b"\0").endswith(GIF_END)
        case "WebP":
            return int.from_bytes(data[4:_RIFF_HEADER], "little") + _RIFF_HEADER > len(data)
        case _:
            return False
