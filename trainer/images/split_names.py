"""The three parts of a split, and the names that people give them in a CSV and to folders."""

import re
from typing import Literal

SplitName = Literal["training", "validation", "test"]
_NAMES: dict[str, SplitName] = {
    **dict.fromkeys(("train", "training", "trn", "trainset", "traindata"), "training"),
    **dict.fromkeys(
        ("validation", "validate", "valid", "val", "eval", "evaluation", "dev", "valset", "validset", "devset"),
        "validation",
    ),
    **dict.fromkeys(("test", "testing", "tst", "testset", "testdata", "holdout"), "test"),
}
_FILLING = {"set", "data", "dataset", "images", "image", "imgs", "img", "split", "seg", "folder"}
"""Words that people put beside a part's name, such as in `training_set` and `seg_train`."""


def named_part(name: str) -> SplitName | None:
    """The part that a name means, such as `Train`, `val` or `test_images`; None for any other name."""
    words = [word for word in re.split(r"[\W_]+", name.lower()) if word and word not in _FILLING]
    return _NAMES.get(words[0]) if len(words) == 1 else None
