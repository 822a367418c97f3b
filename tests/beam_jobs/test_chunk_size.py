"""How many rows a chunk has: whole batches, enough chunks for each shard, and never more than a part may hold."""

import pytest

from beam_jobs.chunk_size import MAX_CHUNK_ROWS, chunk_rows


def test_a_large_listing_has_chunks_of_the_largest_size() -> None:
    assert chunk_rows(10_000, batch_size=32, shards=1, scores=1) == MAX_CHUNK_ROWS


@pytest.mark.parametrize(("scores", "rows"), [(1, 256), (120, 256), (10_000, 25), (10**6, 1)])
def test_a_chunk_holds_fewer_rows_of_many_scores(scores: int, rows: int) -> None:
    assert chunk_rows(5_000, batch_size=32, shards=1, scores=scores) == rows


@pytest.mark.parametrize(("listed", "shards", "rows"), [(1, 1, 32), (256, 1, 32), (257, 1, 64), (4_000, 16, 32)])
def test_each_shard_has_eight_chunks_of_whole_batches_where_there_is_enough(
    listed: int, shards: int, rows: int
) -> None:
    assert chunk_rows(listed, batch_size=32, shards=shards, scores=1) == rows
