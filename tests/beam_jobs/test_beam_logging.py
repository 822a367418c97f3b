"""What Beam's import says where Google Cloud's clients are missing, as most installations are."""

import subprocess
import sys

import pytest

NOTICE = "apitools not found"
WITHOUT_CLIENTS = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "apitools":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Missing())
"""


@pytest.mark.parametrize(
    ("code", "is_said"),
    [
        ("import apache_beam", True),
        ("from beam_jobs.beam_flags import parse_beam_flags; parse_beam_flags([])", False),
        ("from beam_jobs.run import import_beam; import_beam()", False),
    ],
    ids=["beam", "flags", "pipeline"],
)
def test_beam_says_nothing_of_what_is_not_needed(code: str, is_said: bool) -> None:
    setting = "import logging; logging.basicConfig()\n"  # as the commands do
    program = WITHOUT_CLIENTS + setting + code
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (NOTICE in done.stderr) == is_said


def test_a_programs_logging_stays_as_it_was() -> None:
    program = f"{WITHOUT_CLIENTS}from beam_jobs.run import import_beam; import_beam()\nimport logging\n"
    shown = "print(logging.getLogger().handlers, logging.getLogger().filters)"
    done = subprocess.run([sys.executable, "-c", program + shown], capture_output=True, text=True, check=True)
    assert done.stdout == "[] []\n"
