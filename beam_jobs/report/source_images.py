"""The images of a run, read again from where they are and made small, for a page."""

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from serving.errors import FileError, FlowImagesError
from serving.images.limits import ImageLimits, ImageRejected, inspect_image
from serving.page.thumbnails import thumbnail
from serving.storage.base import Storage, place_of
from serving.storage.local_file import TooLarge

MOST_LETTERS = 2_600_000
"""The most that all thumbnails of a page may have, as text: so it stays below 5 MB, and can be sent by e-mail."""
_READERS = 8


class SourceImages:
    """Makes thumbnails of the images of a run."""

    def __init__(
        self, stores: Callable[[str], Storage], locate: Callable[[str], str], limits: ImageLimits, *, upright: bool
    ) -> None:
        """Reads nothing yet.

        Args:
          stores: gives the store that holds a path.
          locate: gives the path of an image from the path of its row.
          limits: those of the run; an image over them is not decoded.
          upright: whether images are turned by their EXIF tag, as the model sees them.
        """
        self._stores = stores
        self._locate = locate
        self._limits = limits
        self._upright = upright
        self._gone: set[str] = set()
        """Web servers and buckets that gave no answer: they are not asked again."""
        self._decoding = threading.Lock()  # one at a time, as a large image takes much memory

    def thumbnails(self, paths: Iterable[str]) -> dict[str, str | None]:
        """A data URI for each path, the first ones first if there are too many; None for what can't be shown."""
        wanted = list(dict.fromkeys(paths))
        found: dict[str, str | None] = dict.fromkeys(wanted)
        letters = 0
        with ThreadPoolExecutor(_READERS, thread_name_prefix="thumbnail") as threads:
            for path, small in zip(wanted, threads.map(self._thumbnail, wanted), strict=True):
                if small and letters + len(small) <= MOST_LETTERS:
                    found[path] = small
                    letters += len(small)
        return found

    def _thumbnail(self, path: str) -> str | None:
        place = self._locate(path)
        if place_of(place) in self._gone:
            return None
        try:
            data = self._stores(place).read(place, self._limits.max_image_bytes)
            inspect_image(data, self._limits)
        except (OSError, TooLarge, ImageRejected, FileError):
            return None
        except FlowImagesError:
            if place_of(place):
                self._gone.add(place_of(place))
            return None
        with self._decoding:
            return thumbnail(data, self._upright)
