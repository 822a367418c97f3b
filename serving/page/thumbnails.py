"""Small copies of images, as text that a page holds."""

import base64
import io
import warnings

from PIL import Image, ImageOps

_SIDE = 176
"""Most pixels of a side."""
_QUALITY = 70


def thumbnail(data: bytes, upright: bool) -> str | None:
    """A data URI of a small WebP; None for what can't be decoded.

    Args:
      data: an image file.
      upright: whether it is turned by its EXIF tag, as the model sees it.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data)) as image:
                image.draft("RGB", (_SIDE, _SIDE))
                small = (ImageOps.exif_transpose(image) if upright else image).convert("RGB")
                small.thumbnail((_SIDE, _SIDE))
                text = io.BytesIO()
                small.save(text, "WEBP", quality=_QUALITY)
    except Exception:  # Pillow's decoders raise whatever they meet
        return None
    return f"data:image/webp;base64,{base64.b64encode(text.getvalue()).decode()}"
