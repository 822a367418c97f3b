"""Progress is told to those who listen to that run, while they do."""

from beam_jobs import progress


def test_each_listener_hears_of_its_own_run() -> None:
    one: list[int] = []
    both: list[int] = []
    with (
        progress.listening("a", one.append),
        progress.listening("a", both.append),
        progress.listening("b", both.append),
    ):
        progress.report("a", 2)
        progress.report("b", 3)
        progress.report("c", 5)
    progress.report("a", 7)
    assert one == [2]
    assert both == [2, 3]
