"""The console that all progress output goes through, so that lines and progress bars do not mix."""

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Plain(Console):
    """rich's console, but printing to a closed pipe raises BrokenPipeError: rich itself exits with code 1."""

    def on_broken_pipe(self) -> None:
        raise  # rich calls this where it handles the error


console = Plain(highlight=False, soft_wrap=True)


def progress() -> Progress:
    """A progress bar that shows the time left and is erased when it is done."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True)
