"""Groups name each label once."""

from pathlib import Path

import pytest

from serving.errors import UsageError
from trainer.evaluation.groups import read_groups


def test_each_label_has_its_group(tmp_path: Path) -> None:
    (tmp_path / "g.csv").write_text('note,label,group\n,pug,"small, old"\n,boxer,large\n')
    assert read_groups(str(tmp_path / "g.csv"), ["boxer", "pug"]) == {"boxer": "large", "pug": "small, old"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("label,group\npug,small\n", "1 labels have no group: 'boxer'"),
        ("label,group\npug,s\nboxer,s\nbeagle,s\n", "line 4: no image is labelled 'beagle'"),
        ("label,group\npug,s\nboxer,\n", "line 3: the group of 'boxer' is ''"),
        ("label,group\npug,s\npug,s\nboxer,s\n", "line 3: 'pug' is named twice"),
        ("label,kind\npug,s\n", "group"),
    ],
)
def test_what_is_not_right_is_told_with_its_line(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "g.csv").write_text(text)
    with pytest.raises(UsageError, match=f"`groups` .*{told}"):
        read_groups(str(tmp_path / "g.csv"), ["boxer", "pug"])


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"`groups` .*g\.csv: no such file"):
        read_groups(str(tmp_path / "g.csv"), ["pug"])
