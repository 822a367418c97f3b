"""Progress is told to those who listen to that run, while they do."""

from beam_jobs import progress


def test_each_listener_hears_of_its_own_run() -> None:
    one: list[str] = []
    both: list[str] = []
    with (
        progress.listening("a", one.append),
        progress.listening("a", both.append),
        progress.listening("b", both.append),
    ):
        progress.report("a", "predicted")
        progress.report("b", "rejected")
        progress.report("c", "failed")
    progress.report("a", "failed")
    assert one == ["predicted"]
    assert both == ["predicted", "rejected"]
