"""What a process may take, from flags and control groups, and how it is divided."""

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_jobs.memory import MIB, Allowance, container_limit, divide, machine_memory, resident
from beam_jobs.predict_options import PredictOptions
from serving.errors import UsageError
from serving.text.sizes import parse_byte_size

GIB = 1024 * MIB


def host(root: Path, cgroup: str, **limits: object) -> Path:
    """A file tree as Linux shows it: the groups of this process, and limits by the path of their file."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(cgroup)
    for path, limit in limits.items():
        file = root / "sys/fs/cgroup" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{limit}\n")
    return root


V1_NONE = 9223372036854771712


@pytest.mark.parametrize(
    ("cgroup", "limits", "expected"),
    [
        pytest.param("0::/\n", {"memory.max": 500 * MIB}, 500 * MIB, id="2, a container"),
        pytest.param("0::/\n", {"memory.max": "max"}, None, id="2, no limit"),
        pytest.param("0::/a/b\n", {"a/b/memory.max": "max", "a/memory.max": 300 * MIB}, 300 * MIB, id="2, from above"),
        pytest.param("0::/a/b\n", {"a/b/memory.max": 200 * MIB, "a/memory.max": 300 * MIB}, 200 * MIB, id="2, nested"),
        pytest.param("0::/a\n", {"a/memory.high": 200 * MIB, "a/memory.max": 300 * MIB}, 200 * MIB, id="2, high"),
        pytest.param("0::/../../x\n", {"memory.max": 200 * MIB}, 200 * MIB, id="2, seen from another namespace"),
        pytest.param("4:memory:/docker/1\n0::/\n", {"memory/memory.limit_in_bytes": 400 * MIB}, 400 * MIB,
                     id="1, a container"),
        pytest.param("4:memory:/a/b\n", {"memory/a/b/memory.limit_in_bytes": V1_NONE,
                                         "memory/a/memory.limit_in_bytes": 400 * MIB}, 400 * MIB, id="1, from above"),
        pytest.param("4:memory:/\n", {"memory/memory.limit_in_bytes": V1_NONE}, None, id="1, no limit"),
        pytest.param("3:cpu,memory:/\n", {"cpu,memory/memory.limit_in_bytes": 400 * MIB}, 400 * MIB, id="1, together"),
        pytest.param("", {}, None, id="none"),
    ],
)  # fmt: skip
def test_the_containers_limit(tmp_path: Path, cgroup: str, limits: dict[str, object], expected: int | None) -> None:
    assert container_limit(host(tmp_path, cgroup, **limits)) == expected


def test_a_system_without_control_groups(tmp_path: Path) -> None:
    assert container_limit(tmp_path) is None


def test_this_process() -> None:
    assert 10 * MIB < resident() < machine_memory()
    assert Allowance().limit == 2 * Allowance(beside_server=True).limit


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_info"), reason="not glibc")
def test_all_threads_share_one_heap(tmp_path: Path) -> None:
    script = """
import ctypes, sys, threading
from beam_jobs.memory import tame_allocator
tame_allocator()
together = threading.Barrier(32)
def allocate():
    held = bytes(100_000)
    together.wait()
threads = [threading.Thread(target=allocate) for _ in range(32)]
for thread in threads: thread.start()
for thread in threads: thread.join()
library = ctypes.CDLL(None)
library.fopen.restype = ctypes.c_void_p
file = ctypes.c_void_p(library.fopen(sys.argv[1].encode(), b"w"))
library.malloc_info(0, file)
library.fclose(file)
"""
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "info")], check=True)
    assert (tmp_path / "info").read_text().count("<heap ") == 1


@given(
    st.integers(1 * GIB, 64 * GIB),
    st.integers(100 * MIB, 500 * MIB),
    st.integers(1, 512),
    st.none() | st.integers(1, 3 * MIB),
)
def test_the_shares_are_the_whole_and_hold_one_largest_image(
    limit: int, taken: int, readers: int, decoded_bytes: int | None
) -> None:
    room = divide(Allowance(limit), taken, readers=readers, decoded_bytes=decoded_bytes)
    chunk = room.peeking + room.reading + room.decoded + room.asking + room.batch
    chunk += room.image if decoded_bytes is None else 0
    assert taken + room.decoding + 2 * chunk < limit
    assert 2 * room.image <= room.reading
    assert 3 * (room.image if decoded_bytes is None else decoded_bytes) <= room.asking
    assert decoded_bytes is None or decoded_bytes <= room.batch


def test_too_little_memory_is_wrong_usage_only_where_it_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"`max_memory` 200MiB is too little.*at least (\d+)MiB"):
        divide(Allowance(200 * MIB), 190 * MIB, readers=64, decoded_bytes=None)
    monkeypatch.setattr("beam_jobs.memory.container_limit", lambda: 200 * MIB)
    assert divide(Allowance(), 190 * MIB, readers=64, decoded_bytes=None).image > 10 * MIB


@pytest.mark.parametrize(
    ("text", "size"),
    [("2GiB", 2 * GIB), ("1500M", 1_500_000_000), ("1.5gi", 1536 * MIB), ("536870912", 512 * MIB), ("1 TB", 10**12)],
)
def test_sizes_have_units(text: str, size: int) -> None:
    assert parse_byte_size(text) == size


@pytest.mark.parametrize("text", ["", "much", "-1G", "nan", "inf", "2", "2GG", "1e9", "9999999T", "٣GiB"])
def test_what_is_no_sane_size_is_refused(text: str) -> None:
    with pytest.raises((ValueError, UsageError)):
        PredictOptions(inputs=("x",), output="out", max_memory=parse_byte_size(text))
