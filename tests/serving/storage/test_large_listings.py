"""A bucket of 100,000 objects is listed page by page, in bounded memory.

A server of this test answers each list API, as the emulators take minutes to fill. It makes a page when it is asked
for one, so what a listing takes in memory is the client's own.
"""

import http.server
import sys
import threading
import urllib.parse
from collections.abc import Iterator

import psutil
import pytest

from serving.storage.storage_options import AzureOptions, S3Options, StorageOptions
from serving.storage.stores import open_store

KEYS = 100_000
PAGE = 1000


class Lister(http.server.BaseHTTPRequestHandler):
    """Answers one page of a listing in the protocol that the request is of."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Says nothing."""

    def do_GET(self) -> None:
        asked = {
            key: values[0] for key, values in urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query).items()
        }
        token = asked.get("continuation-token") or asked.get("pageToken") or asked.get("marker") or "0"
        start, end = int(token), min(int(token) + PAGE, KEYS)
        keys = [f"in/{number:06}.jpg" for number in range(start, end)]
        following = str(end) if end < KEYS else ""
        answer = s3_page if "list-type" in asked else azure_page if asked.get("comp") == "list" else gs_page
        body = answer(keys, following).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/json" if answer is gs_page else "application/xml")
        self.end_headers()
        self.wfile.write(body)


def s3_page(keys: list[str], following: str) -> str:
    items = "".join(f"<Contents><Key>{key}</Key><Size>4096</Size></Contents>" for key in keys)
    more = f"<NextContinuationToken>{following}</NextContinuationToken>" if following else ""
    return (
        f"<ListBucketResult><IsTruncated>{str(bool(following)).lower()}</IsTruncated>{more}{items}</ListBucketResult>"
    )


def azure_page(keys: list[str], following: str) -> str:
    items = "".join(
        f"<Blob><Name>{key}</Name><Properties><Content-Length>4096</Content-Length>"
        "<BlobType>BlockBlob</BlobType></Properties></Blob>"
        for key in keys
    )
    return (
        '<?xml version="1.0" encoding="utf-8"?><EnumerationResults ServiceEndpoint="http://h/" ContainerName="c">'
        f"<Blobs>{items}</Blobs><NextMarker>{following}</NextMarker></EnumerationResults>"
    )


def gs_page(keys: list[str], following: str) -> str:
    items = ",".join(f'{{"name": "{key}", "size": "4096"}}' for key in keys)
    more = f', "nextPageToken": "{following}"' if following else ""
    return f'{{"kind": "storage#objects", "items": [{items}]{more}}}'


@pytest.fixture
def lister() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Lister) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("kind", ["s3", "gs", "az"])
def test_a_large_bucket_is_listed_in_bounded_memory(kind: str, lister: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", lister)
    options = StorageOptions(
        s3=S3Options(endpoint_url=lister, region="x", access_key_id="x", secret_access_key="x"),
        azure=AzureOptions(connection_string=f"AccountName=x;AccountKey=eA==;BlobEndpoint={lister}/x"),
    )
    files, process = open_store(f"{kind}://", options).walk(f"{kind}://bucket/in"), psutil.Process()
    first = [next(files).path for _ in range(10 * PAGE)]  # what is made once is made by now
    before, grown, count = process.memory_info().rss, 0, len(first)
    for _ in files:
        count += 1
        if count % PAGE == 0:
            grown = max(grown, process.memory_info().rss - before)
    assert count == KEYS
    assert first[:2] == [f"{kind}://bucket/in/000000.jpg", f"{kind}://bucket/in/000001.jpg"]
    assert grown < 12 * 2**20, f"{grown:,} bytes; all the paths alone take {sys.getsizeof(first[0]) * KEYS:,}"
