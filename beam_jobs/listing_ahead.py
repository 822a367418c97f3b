"""The images of a new run are listed in a thread of their own, while its server starts and is asked."""

import contextlib
import datetime
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future

from beam_jobs import stop_request
from beam_jobs.listing import Listed, Listing
from beam_jobs.sorted_images import SortedImages, sort_images
from beam_jobs.stop_request import StopRequest


class ListingAhead:
    """A listing that is under way; see `listing_ahead`."""

    def __init__(self, images: Listing, base: str, outcome: "Future[SortedImages]") -> None:
        self.began = datetime.datetime.now(datetime.UTC)
        self.images = images
        """Has what was left out, and where images were, when the listing has ended."""
        self.base = base
        self.stop = StopRequest()
        """Made if the listing fails, or if the runs of this process are to stop: a server is no longer waited for."""
        self._outcome = outcome

    def wait(self) -> SortedImages:
        """The images, when all are listed.

        Raises:
          Interrupted: a stop was asked for.
          UsageError, StorageUnavailable: see `Listing` and `sort_images`.
        """
        ended = threading.Event()
        self._outcome.add_done_callback(lambda _: ended.set())
        with self.stop.closing(ended.set):
            ended.wait()
        stop_request.raise_if_stopped()
        return self._outcome.result()


@contextlib.contextmanager
def listing_ahead(images: Listing, *, unique_ids: bool, base: str) -> Iterator[ListingAhead]:
    """Lists while the block runs; what is not listed at its end is given up.

    Args:
      images: to list.
      unique_ids: whether ids are refused that two images have.
      base: the folder that relative paths are below.

    Raises:
      UsageError, StorageUnavailable: the listing failed, so what the block waited for was broken off.
    """
    outcome: Future[SortedImages] = Future()
    listing = ListingAhead(images, base, outcome)
    given_up = threading.Event()

    def wanted() -> Iterator[Listed]:
        for one in images:
            if given_up.is_set():
                raise CancelledError
            yield one

    def run() -> None:
        try:
            outcome.set_result(sort_images(wanted(), file, unique_ids=unique_ids, base=base))
        except BaseException as error:
            outcome.set_exception(error)
            listing.stop.make()

    with tempfile.TemporaryFile() as file, stop_request.closed_on_stop(listing.stop.make):
        # A daemon, as nobody need wait at the process's end for a bucket that doesn't answer.
        threading.Thread(target=run, name="listing", daemon=True).start()
        try:
            yield listing
        except Exception:
            if outcome.done():  # its error caused the other one
                outcome.result()
            raise
        finally:
            given_up.set()
