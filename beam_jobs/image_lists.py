"""Lists of images that users write: a path a line, or a table with a column of paths."""

import gzip
import io
import json
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from serving.errors import UsageError
from serving.images.header import IMAGE_ENDINGS
from serving.storage.base import is_web, join, scheme, shown, without_query
from serving.text.read_csv import read_rows
from serving.text.utf8_files import decode_text, is_utf8

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_JSON_LINES = (".jsonl", ".ndjson")
_PARQUET = ".parquet"
_PACKED = ".gz"
LISTS = (".txt", *_DELIMITERS, *_JSON_LINES, _PARQUET)
"""Endings of lists; `.gz` may follow."""
_TEXTS = (
    ".json", ".md", ".rst", ".xml", ".yaml", ".yml", ".toml", ".ini", ".cfg", ".log", ".html", ".htm",
    ".xlsx", ".xls", ".ods", ".arrow", ".feather",
)  # fmt: skip
_ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".7z", ".rar")

PATH_COLUMNS = ("path", "filepath", "filename", "file", "image")
"""Names of the column of paths, the first that is there."""
LABEL_COLUMNS = ("label", "breed")
_LINE_END = re.compile(r"\r\n|\r|\n")


class Named(NamedTuple):
    """An image that a list names. Its path is a name, never a pattern."""

    where: str
    """The line or row of the list that names the image."""
    path: str
    """Bytes that aren't UTF-8 stand as lone surrogates (PEP 383)."""
    id: str | None = None
    label: str | None = None


def is_list(path: str) -> bool:
    """Does a file of this name hold names of images, and not an image?"""
    return _ending(path) is not None


def is_text(name: str) -> bool:
    """Is a file of this name a list or another text, which is not an image although it lies among them?"""
    return is_list(name) or name.lower().removesuffix(_PACKED).endswith(_TEXTS)


def check_kind(path: str) -> None:
    """Refuses what is named as an input and is neither an image, a folder nor a list, by its ending.

    Raises:
      UsageError: it is a text or an archive.
    """
    name = without_query(path).lower()
    if name.endswith(_ARCHIVES):
        raise UsageError(f"`inputs` {shown(path)} is an archive: unpack it, and give the folder")
    if name.removesuffix(_PACKED).endswith(_TEXTS):
        raise UsageError(
            f"`inputs` {shown(path)} is neither an image nor a list that can be read: save the list as {_OR_LISTS}"
        )


_OR_LISTS = f"{', '.join(LISTS[:-1])} (each also as .gz) or {LISTS[-1]}"


def read_list(data: bytes, path: str, exists: Callable[[str], bool], images: str | None = None) -> Iterator[Named]:
    """The images of a list.

    A text has a path a line. A table (CSV, TSV, JSON Lines, Parquet) has a column of `PATH_COLUMNS`, and perhaps `id`
    and one of `LABEL_COLUMNS`; or `id` alone, as Kaggle's `labels.csv`, for the images `<images>/<id>.jpg`.

    Args:
      data: the whole file.
      path: of the file, for messages and its ending.
      exists: is there such a file? Asked only about names with blanks around them.
      images: the folder that relative paths and ids are in; None for the working directory.

    Raises:
      UsageError: it is not UTF-8, a row is not as the first line says, or a path is empty; with the line.
    """
    name = f"`inputs` {shown(path)}"
    for one in _read(data, _ending(path) or "", path, name, images):
        where = f"{name}, {one.where}"
        if not all(map(is_utf8, (one.path, one.id or "", one.label or ""))):
            _refuse_other_encoding(one, where)
        plain = one.path.strip()
        if one.path != plain and (is_web(plain) or (not exists(one.path) and exists(plain))):
            raise UsageError(f"{where}: there is no {shown(one.path)!r}, but {shown(plain)!r}: remove the blanks")
        yield one


def _ending(path: str) -> str | None:
    """The ending of a list, without `.gz`; None for a file that is none."""
    name = without_query(path).lower().removesuffix(_PACKED)
    return next((ending for ending in LISTS if name.endswith(ending)), None)


def _read(data: bytes, ending: str, path: str, name: str, images: str | None) -> Iterator[Named]:
    if without_query(path).lower().endswith(_PACKED):
        data = _unpacked(data, name)
    if ending == _PARQUET:
        columns, rows = _parquet(data, name)
        return _named(columns, rows, name, images)
    text = decode_text(data, name, errors="surrogateescape")
    if ending in _JSON_LINES:
        return _named_by_objects(text, name, images)
    if ending in _DELIMITERS:
        columns, lines = read_rows(text, name, delimiter=_DELIMITERS[ending])
        return _named(columns, ((f"line {line}", values) for line, values in lines), name, images)
    return _lines(text, images)


def _unpacked(data: bytes, name: str) -> bytes:
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"{name} is not a whole gzip file: {error}; make it again") from error


def _lines(text: str, images: str | None) -> Iterator[Named]:
    for number, line in enumerate(_LINE_END.split(text), start=1):
        if line:
            yield Named(f"line {number}", _below(images, line))


def _named_by_objects(text: str, name: str, images: str | None) -> Iterator[Named]:
    """The images that JSON Lines name; each line may have other keys."""
    for number, line in enumerate(_LINE_END.split(text), start=1):
        where = f"line {number}"
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError as error:
            raise UsageError(f"{name}, {where} is not JSON: {error}; write an object a line") from error
        if not isinstance(value, dict):
            raise UsageError(f'{name}, {where} is not an object: write {{"path": …}}')
        yield from _named(list(value), [(where, value)], f"{name}, {where}" if number > 1 else name, images)


def _parquet(data: bytes, name: str) -> tuple[list[str], Iterator[tuple[str, Mapping[str, Any]]]]:
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(io.BytesIO(data))
    except pyarrow.ArrowException as error:
        raise UsageError(f"{name} is not a Parquet file: {error}") from error
    columns = [column for column in file.schema_arrow.names if column in ("id", *PATH_COLUMNS, *LABEL_COLUMNS)]

    def rows() -> Iterator[tuple[str, Mapping[str, Any]]]:
        number = 0
        for batch in file.iter_batches(columns=columns):
            for values in batch.to_pylist():
                number += 1
                yield f"row {number}", values

    return columns or file.schema_arrow.names, rows()


def _named(
    columns: list[str], rows: Iterable[tuple[str, Mapping[str, Any]]], name: str, images: str | None
) -> Iterator[Named]:
    """The images of a table's rows."""
    by = next((column for column in PATH_COLUMNS if column in columns), None)
    label = next((column for column in LABEL_COLUMNS if column in columns), None)
    if by is None and not ("id" in columns and images is not None):
        kaggle = ", or give `images`, the folder of <id>.jpg" if "id" in columns else ""
        raise UsageError(
            f"{name}: it needs a column of paths, {' or '.join(PATH_COLUMNS)}{kaggle}; it has "
            f"{', '.join(map(str, columns)) or 'none'}"
        )
    for where, values in rows:
        at = f"{name}, {where}" if not name.endswith(where) else name
        texts = {column: _text(values.get(column), column, at) for column in {by, label, "id"} if column is not None}
        image_id = texts["id"] or None
        if not (texts[by] if by else image_id):
            raise UsageError(f"{at}: the {'path' if by else 'id'} is empty")
        path = texts[by] if by else _file_of(image_id or "")
        yield Named(where, _below(images, path), image_id, texts[label] or None if label else None)


def _text(value: Any, column: str, where: str) -> str:
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise UsageError(f"{where}: {column} is not text, but {value!r}")
    return str(value)


def _file_of(image_id: str) -> str:
    """The name of the image of an id, which may be the whole name already."""
    is_whole = image_id.lower().endswith(IMAGE_ENDINGS)
    return image_id if is_whole else f"{image_id}.jpg"


def _below(images: str | None, path: str) -> str:
    return path if images is None or scheme(path) or path.startswith("/") else join(images, path)


def _refuse_other_encoding(one: Named, where: str) -> None:
    """A name on a disk may hold any bytes, so it is one if there is such a file; else the list is not UTF-8."""
    on_disk = scheme(one.path) == "" and os.path.lexists(one.path.encode("utf-8", "surrogateescape"))
    if not (on_disk and is_utf8(one.id or "") and is_utf8(one.label or "")):
        raise UsageError(f"{where} is not UTF-8 (the file may be Latin-1 or Windows-1252): save it as UTF-8")
