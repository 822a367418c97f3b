"""Damaged files never crash or hang the decoder path; a bounded run of `tests.faults.fuzz`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.faults
def test_every_damaged_file_gets_a_verdict(tmp_path: Path) -> None:
    count = 3000
    progress = tmp_path / "number"
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.fuzz", "--count", str(count), "--seed", "7", "--progress", progress],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, f"file {progress.read_text()}: {done.stderr[-2000:]}"
    found = json.loads(done.stdout.splitlines()[-1])
    assert sum(found["verdicts"].values()) == count
    assert found["verdicts"]["decoded"] > count / 50
    assert found["verdicts"]["corrupt"] > count / 50
