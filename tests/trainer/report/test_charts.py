"""Charts that share a page."""

import re

from trainer.evaluation.evaluation import Calibration, ReliabilityBin
from trainer.progress import Epoch
from trainer.report.charts import curves, reliability

HISTORY = [Epoch(number, 1 / number, 0.9, 1.2 / number, 0.8) for number in range(1, 9)]
BINS = tuple(
    ReliabilityBin(low=n / 10, high=(n + 1) / 10, images=n + 1, confidence=n / 10 + 0.05, accuracy=n / 10)
    for n in range(10)
)
CALIBRATION = Calibration(temperature=1, error_before=0.1, error=0.1, bins=BINS)


def test_an_id_is_used_once_and_each_one_that_is_asked_for_is_there() -> None:
    page = curves(HISTORY, 5) + reliability(CALIBRATION)
    ids = re.findall(r'\bid="([^"]+)"', page)
    asked = re.findall(r'href="#([^"]+)"', page) + re.findall(r"url\(#([^)]+)\)", page)
    assert asked
    assert len(ids) == len(set(ids))
    assert set(asked) <= set(ids)


def test_charts_take_the_colours_of_their_page() -> None:
    page = curves(HISTORY, 5) + reliability(CALIBRATION)
    assert {"currentColor", "var(--first)", "var(--second)"} <= set(re.findall(r"currentColor|var\(--\w+\)", page))
    assert not re.findall(r"(?:fill|stroke): (#[0-9a-f]{6})", page)
