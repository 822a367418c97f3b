"""Text protos as editors write them."""

from pathlib import Path

from serving.server.models import textprotos


def test_a_text_proto_may_have_a_byte_order_mark(tmp_path: Path) -> None:
    file = tmp_path / "batching.config"
    file.write_bytes(b"\xef\xbb\xbfmax_batch_size { value: 8 }")
    assert textprotos.read(str(file), textprotos.BatchingParameters()).max_batch_size.value == 8
