"""The column of a progress bar that counts, for steps of which some don't know how much they have to do."""

from rich.progress import MofNCompleteColumn, Task
from rich.text import Text
from typing_extensions import override


class KnownCount(MofNCompleteColumn):
    """`3/48`, and nothing where the 48 is not known."""

    @override
    def render(self, task: Task) -> Text:
        return super().render(task) if task.total is not None else Text("")
