"""Which version is loaded or unloaded next."""

import pytest

from serving.server.models.version_policy import State, Version, next_action


@pytest.mark.parametrize(
    ("states", "aspired", "expected"),
    [
        ({1: State.AVAILABLE, 2: State.START}, {2}, ("load", 2)),
        ({1: State.AVAILABLE, 2: State.AVAILABLE}, {2}, ("unload", 1)),
        ({1: State.AVAILABLE, 2: State.LOADING}, set(), ("unload", 1)),
        ({1: State.START, 2: State.START}, {1, 2}, ("load", 2)),
        ({1: State.AVAILABLE, 2: State.AVAILABLE, 3: State.START}, {3}, ("unload", 1)),
        ({1: State.AVAILABLE, 2: State.END}, {2}, None),
        ({1: State.AVAILABLE}, {1}, None),
    ],
)
def test_the_policy_preserves_availability(
    states: dict[int, State], aspired: set[int], expected: tuple[str, int] | None
) -> None:
    known = [Version("m", number, "", state) for number, state in states.items()]
    action = next_action(known, aspired, now=0.0)
    got = None if action is None else ("load" if action.load else "unload", action.version.number)
    assert got == expected
