"""What a person sees of a training while it runs, on a terminal of 80 columns."""

import pytest

from trainer.progress import Epoch
from trainer.progress_bar import progress_bar


@pytest.fixture(autouse=True)
def _terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"FORCE_COLOR": "1", "TERM": "xterm", "COLUMNS": "80"}.items():  # which rich goes by
        monkeypatch.setenv(name, value)


def test_the_line_of_an_epoch_fits(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar() as bar:
        bar.epoch(Epoch(200, 12.3456, 0.87654, 1.23456, 0.76543), 200)
    line = "epoch 200/200  loss 12.346, validation 1.235  accuracy 0.877, validation 0.765"
    assert line in capsys.readouterr().err
    assert len(line) < 80


def test_steps_are_counted_where_it_is_known_how_many_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar() as bar:
        bar.begin("asking", 48)
        bar.advance(3)
        bar.begin("exporting the model")
        bar.advance()
    shown = capsys.readouterr().err
    assert "asking" in shown
    assert "48" in shown
    assert "exporting the model" in shown
    assert "/?" not in shown
