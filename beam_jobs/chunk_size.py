"""How many rows of the manifest a chunk has."""

MAX_CHUNK_ROWS = 256
"""Rows that one part holds. Two chunks are under way at once, so at most 512 rows are asked again after a crash."""
MAX_CHUNK_SCORES = 250_000
"""Scores that one part holds, at 70 bytes each in memory: of 10,000 classes it has 25 rows."""


def chunk_rows(listed: int, *, batch_size: int, shards: int, scores: int) -> int:
    """How many rows a chunk has: whole batches, up to a maximum, so that each shard has at least 8 chunks.

    Args:
      listed: rows of the manifest.
      batch_size: images a request.
      shards: processes that share the chunks.
      scores: how many the run keeps of an image.
    """
    share = -(-listed // (8 * shards))
    batches = max(1, -(-share // batch_size))
    return max(1, min(MAX_CHUNK_ROWS, MAX_CHUNK_SCORES // scores, batches * batch_size))
