"""Asks about prepared images and gives each its outcome, also after refusals, missed deadlines and wrong answers."""

import logging
import re
import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from beam_jobs.embeddings import pack
from beam_jobs.image_reader import Prepared, first_line
from beam_jobs.parts import TOO_SLOW, Outcome, Verdict
from beam_jobs.predict_options import Throughput
from serving.client.image_calls import Scores
from serving.client.scores import Groups, rank
from serving.console.option_fields import options_class
from serving.errors import DeadlineExceeded, InvalidRequest, RequestTooLarge, ServerUnavailable
from serving.images.damage import why_not_decoded
from serving.images.encoder import CORRUPT, Payload
from serving.images.facts import Fact
from serving.network.retry import Retrier, RetryPolicy, missed, retry_rejected

Array = np.ndarray[Any, np.dtype[Any]]
_LOG = logging.getLogger(__name__)


class Predictor(Protocol):
    """What a chunk needs of a model; `serving.client.image_calls.ImagePredictor` is one."""

    def predict(self, images: Sequence[Payload]) -> Scores:
        """Scores n ≥ 1 images in one call; raises ServingError, and DeadlineExceeded at the first miss."""

    def pack(self, images: Sequence[Payload]) -> Sequence[Payload]:
        """The same n ≥ 1 images, as they are best kept until they are scored, together or apart."""


@options_class
class ChunkOptions(Throughput):
    """How one chunk is worked through: how images are asked about, and how often again."""

    top_k: int = 5
    """Classes to keep of each image; 0 for all of them, in the order of the labels."""
    embeddings: bool = False
    """Keep the layer before the head of each image, too."""
    lone_retries: int = 2
    """How often an image whose request was refused is asked again, alone, before it counts as refused."""
    doubtful_retries: int = 9
    """The same once an image was refused that then got its scores: other clients' bad images may fail our requests."""
    decoded_by_server: bool = False
    """Images are sent as files to a model that fails on a bad one, so a refusal is the image's own fault."""
    groups: Groups | None = None
    """The groups of the model's labels, to give the best of."""
    facts: tuple[Fact, ...] = ()
    """Facts to give of each predicted image."""
    deadline_misses: int = 2
    """How often a request misses its deadline, while the server answers others, before its images are asked about
    apart, and a lone image before it counts as too slow: once may be chance, or the end of a hang."""


_REFUSED = "refused"
_LARGEST_BATCH = re.compile(r"larger than maximum input batch size (\d+)")
"""Matches the refusal of a request that the server's batches can't hold, which says nothing about an image."""


class _TooSlow(Exception):
    """A request misses its deadline although the server answers others."""


class _Images(list[Prepared]):
    """Images that were packed together for their request."""

    def __init__(self, images: Sequence[Prepared] = (), payloads: Sequence[Payload] = ()) -> None:
        super().__init__(images)
        self.payloads = payloads


def _payloads(images: Sequence[Prepared]) -> list[Payload]:
    return [one.payload for one in images if one.payload is not None]


class Scorer:
    """Asks about batches and gives each image its outcome; safe to use from several threads.

    One bad image costs only itself: a refused request is halved, one that misses its deadlines is taken apart.
    """

    def __init__(
        self,
        predictor: Predictor,
        options: ChunkOptions,
        retry: RetryPolicy,
        known_good: Payload | None,
        stop: threading.Event,
    ) -> None:
        """Asks nothing yet.

        Args:
          predictor: scores payloads; it does not ask again by itself after a missed deadline.
          options: sizes, and how often an image is asked about again.
          retry: how long to go on with a server that misses all deadlines.
          known_good: an image that the model is sure to take, until another one was answered.
          stop: when set, ends waits.
        """
        self._predictor = predictor
        self._options = options
        self._deadline_s = retry.deadline_s
        self._stop = stop
        self._retrier = Retrier(retry, stop, retried=missed)
        # Set when an image was refused and then accepted: from then on another client may cause refusals.
        self._doubt = threading.Event()
        self._largest = options.batch_size
        self._slow_batches = 0
        self._known_good = known_good
        self._answered: Prepared | None = None

    @property
    def retries(self) -> int:
        """Requests that were repeated after a missed deadline."""
        return self._retrier.retries

    def answer(self, batch: list[Prepared]) -> list[Outcome]:
        """The outcomes of a batch, in its order. Its images are exchanged for those that lie in their request.

        Raises:
          ServingError: the server can't be asked at all, or refuses what it answered before.
        """
        images = self._packed(batch)
        known = {one.row: one.outcome for one in batch if one.outcome}
        doubted = self._doubt.is_set()
        known |= {outcome.row: outcome for outcome in (self._score(images) if images else ())}
        if self._doubt.is_set() and not doubted:  # another client may have caused the earlier refusals: ask again
            again = [one for one in images if known[one.row].reason == _REFUSED]
            known |= {one.row: self._score_alone(one, None) for one in again}
        return [known[one.row] for one in batch]

    def _packed(self, batch: list[Prepared]) -> "_Images":
        """The images of a batch, which has no others any more."""
        places = [place for place, one in enumerate(batch) if one.payload is not None]
        if not places:
            return _Images()
        payloads = self._predictor.pack(_payloads([batch[place] for place in places]))
        for place, payload in zip(places, payloads, strict=True):
            batch[place] = batch[place]._replace(payload=payload)
        return _Images([batch[place] for place in places], payloads)

    def _score(self, images: Sequence[Prepared], misses: int | None = None) -> list[Outcome]:
        """Asks once; a refused request is halved, as any of its images may be the cause, or none."""
        misses = self._options.deadline_misses if misses is None else misses
        if len(images) > self._largest:
            return self._score_halves(images, misses)
        try:
            scores = self._ask(images, misses)
        except _TooSlow:
            return self._score_slow(images, misses)
        except InvalidRequest as error:
            if len(images) == 1:
                return [self._score_alone(images[0], error)]
            if largest := _LARGEST_BATCH.search(str(error)):
                self._largest = max(1, int(largest[1]))  # learned once, not by a refusal of each batch
                return self._score_halves(images, misses)
            halves = self._score_halves(images, misses)
            if not isinstance(error, RequestTooLarge):
                self._note_doubt(halves)
            return halves
        self._note_answer(images)
        return [self._outcome(one, scores, place) for place, one in enumerate(images)]

    def _score_halves(self, images: Sequence[Prepared], misses: int) -> list[Outcome]:
        half = len(images) // 2
        return self._score(images[:half], misses) + self._score(images[half:], misses)

    def _note_answer(self, images: Sequence[Prepared]) -> None:
        if self._answered is None or images[0].bytes < self._answered.bytes:  # a small one is quick to ask about again
            payload = images[0].payload  # a copy, as it would keep the whole message
            self._answered = images[0]._replace(payload=payload.copy() if isinstance(payload, np.ndarray) else payload)
        if 2 * len(images) > self._largest:
            self._slow_batches = 0

    def _note_doubt(self, outcomes: Sequence[Outcome]) -> None:
        """Takes note of a refused request whose images were all accepted alone: another client's was the cause."""
        if not any(outcome.reason == _REFUSED for outcome in outcomes):
            self._doubt.set()

    def _ask(self, images: Sequence[Prepared], misses: int) -> Scores:
        """Asks until there is an answer or patience ends, as one request in which an image may be slow.

        Raises:
          _TooSlow: it missed its deadline `misses` times, and each time the server answered others.
          DeadlineExceeded: so it did for the whole patience, and the server answered nothing else, either.
        """
        count = 0
        payloads = images.payloads if isinstance(images, _Images) else _payloads(images)

        def once() -> Scores:
            nonlocal count
            try:
                return self._predictor.predict(payloads)
            except DeadlineExceeded as error:
                count += self._server_answers()
                if count >= misses:
                    raise _TooSlow from error
                raise

        return self._retrier(once)

    def _server_answers(self) -> bool:
        """Does it answer about an image that is known to be good, in time, right now?"""
        known_good = self._answered.payload if self._answered else self._known_good
        if known_good is None:
            return False
        try:
            self._predictor.predict([known_good])
        except (DeadlineExceeded, InvalidRequest):
            return False
        return True

    def _score_slow(self, images: Sequence[Prepared], misses: int) -> list[Outcome]:
        """Takes a request apart that is too slow: into halves, and a half that is so, too, into single images.

        A server goes on with requests that were given up, so the images that may be the cause are asked about as
        rarely as can be; the largest come last, when the others have their outcomes.
        """
        if len(images) == 1:
            return [self._too_slow(images[0])]
        _LOG.warning(
            "%d images of one request are not answered within %g s, although the server answers others: "
            "asking about them apart",
            len(images),
            self._deadline_s,
        )
        ordered = sorted(images, key=lambda one: one.bytes)
        half = len(ordered) // 2
        parts = [ordered[:half], ordered[half:]] if misses > 1 else [[one] for one in ordered]
        outcomes = [outcome for part in parts for outcome in self._score(part, 1 if len(part) > 1 else None)]
        if not any(outcome.reason == TOO_SLOW for outcome in outcomes):
            self._note_slow_batch(len(images))
        return outcomes

    def _note_slow_batch(self, size: int) -> None:
        """Counts a batch of which no image was slow alone; after some, smaller batches are sent."""
        self._slow_batches += 1
        if self._slow_batches > self._options.requests_in_flight:  # of those in flight together, one cause is likely
            self._largest, self._slow_batches = max(1, min(self._largest, size // 2)), 0

    def _too_slow(self, image: Prepared) -> Outcome:
        message = (
            f"no answer within {self._deadline_s:g} s to a request of this image alone, while the server answered "
            "another one: give more with `deadline_s`, and `retry_failed`"
        )
        return Outcome(image.row, "rejected", stage="predict", reason=TOO_SLOW, message=message)

    def _score_alone(self, image: Prepared, error: InvalidRequest | None) -> Outcome:
        """Asks again, alone: with batching in the server, another client's image may have caused the refusal."""
        try:
            scores = self._ask_alone(image, error, self._retries)
        except _TooSlow:
            return self._too_slow(image)
        except RequestTooLarge as refusal:
            return Outcome(image.row, "rejected", stage="predict", reason="too_large", message=first_line(refusal))
        except InvalidRequest as refusal:
            self._check_server(refusal)
            verdict: Verdict = "rejected" if self._options.decoded_by_server else "failed"
            return Outcome(image.row, verdict, stage="predict", reason=_REFUSED, message=first_line(refusal))
        self._doubt.set()
        return self._outcome(image, scores, 0)

    def _ask_alone(self, image: Prepared, refusal: InvalidRequest | None, retries: Callable[[], int]) -> Scores:
        """Asks about an image alone, after the refusal of its request if there was one; raises the last refusal."""
        before = [refusal] if refusal else []

        def ask() -> Scores:
            if before:
                raise before.pop()
            return self._ask([image], self._options.deadline_misses)

        refused = len(before)
        return retry_rejected(ask, lambda: refused + retries(), self._stop)

    def _retries(self) -> int:
        return self._options.doubtful_retries if self._doubt.is_set() else self._options.lone_retries

    def _check_server(self, refusal: InvalidRequest) -> None:
        """Asks about an image that was answered before: if that is refused now, the server is at fault."""
        if self._answered is not None:
            try:
                self._ask_alone(self._answered, None, lambda: self._options.doubtful_retries)
            except InvalidRequest as error:
                raise ServerUnavailable(f"the server refuses what it has answered before: {error}") from refusal
            except _TooSlow as error:
                raise ServerUnavailable("the server does not answer in time what it has answered before") from error

    def _outcome(self, image: Prepared, answer: Scores, place: int) -> Outcome:
        row, probabilities = image.row, answer.probabilities[place]
        if not answer.ok[place]:
            return Outcome(row, "rejected", stage="decode", reason=CORRUPT, message=why_not_decoded(image.payload))
        if not np.isfinite(probabilities).all():
            return Outcome(row, "failed", stage="predict", reason="not_finite", message="the model answered NaN")
        classes, scores = rank(probabilities, self._options.top_k)
        groups = self._options.groups
        return Outcome(
            row,
            "predicted",
            classes,
            scores,
            group=groups.best(probabilities) if groups else None,
            facts=image.facts,
            embedding="" if answer.embeddings is None else pack(answer.embeddings[place]),
        )
