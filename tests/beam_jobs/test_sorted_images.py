"""The lines of a manifest: sorted, distinct and complete, in chunks of any size."""

import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_jobs.listing import Listed
from beam_jobs.manifest import Manifest, Row
from beam_jobs.sorted_images import sort_images
from serving.errors import UsageError
from serving.storage.disk import Disk

names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)


def build(paths: list[str], path: Path, rows: int = 4) -> tuple[Manifest, list[list[Row]]]:
    with open(path, "w+b") as file:
        manifest = sort_images((Listed(p) for p in paths), file).cut(rows)
    return manifest, [manifest.read_chunk(Disk(), str(path), chunk) for chunk in range(manifest.chunks)]


@settings(max_examples=60)
@given(st.lists(names, min_size=1, max_size=200), st.integers(1, 64))
def test_chunks_hold_every_distinct_path_once_in_order(
    tmp_path_factory: pytest.TempPathFactory, paths: list[str], rows: int
) -> None:
    manifest, chunks = build(paths, tmp_path_factory.mktemp("manifest") / "m.jsonl", rows)
    assert [row.path for chunk in chunks for row in chunk] == sorted(set(paths))
    assert [len(chunk) for chunk in chunks] == [manifest.rows_in(chunk) for chunk in range(manifest.chunks)]
    assert (manifest.listed, manifest.duplicates) == (len(set(paths)), len(paths) - len(set(paths)))


def test_a_name_that_is_not_utf8_is_written_with_escapes(tmp_path: Path) -> None:
    _, [[row]] = build(["caf\udce9.jpg"], tmp_path / "m")
    assert row == Row("caf\\xe9.jpg", unnameable=True)


@given(
    st.lists(st.lists(st.sampled_from([b"\xff", b"\\", b"x", b"f", b"\xc3\xa9", b"e\xcc\x81"]), min_size=1, max_size=6))
)
def test_unlike_names_are_unlike_rows_whatever_their_bytes(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[list[bytes]]
) -> None:
    paths = ["x.jpg", *(b"".join(one).decode("utf-8", "surrogateescape") for one in pieces)]
    manifest, chunks = build(paths, tmp_path_factory.mktemp("manifest") / "m")
    rows = [(row.path, row.unnameable) for chunk in chunks for row in chunk]
    assert len(set(rows)) == manifest.listed == len(set(paths))


def test_no_image_is_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="names no image"):
        build([], tmp_path / "m")


@pytest.mark.parametrize(
    "images",
    [[Listed("a/x.jpg"), Listed("b/x.png")], [Listed("a", None, "7"), Listed("7.jpg")]],
    ids=["stems", "given-id"],
)
def test_a_submission_file_needs_distinct_ids(images: list[Listed]) -> None:
    with pytest.raises(UsageError, match="the same id"):
        sort_images(images, io.BytesIO(), unique_ids=True)
