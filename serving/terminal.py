"""The one console for tables and progress: text from files is shown as it is, never read as markup or emoji codes."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def console(*, stderr: bool = False) -> "Console":
    """A console on stdout or stderr. Style its parts by `style=`, as `[red]` and `:dog:` stay text."""
    from rich.console import Console

    return Console(stderr=stderr, markup=False, emoji=False, highlight=False)
