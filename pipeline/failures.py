"""An engine that fails costs its row, and never the run."""

import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from core.cache import Artifact
from core.disk import is_full
from core.engine_name import EngineName
from core.text import one_line
from measure.calls import EngineError


@contextmanager
def costs_its_row(name: EngineName, refused: dict[EngineName, str], what: str = "") -> Iterator[None]:
    """An error inside costs the row of the engine `name`, not the run: it becomes the reason in `refused`, after `what`."""
    try:
        yield
    except Exception as error:
        refused[name] = f"{what}{reason_of(error)}"


def reason_of(error: Exception) -> str:
    """`error` in one line. Raises it again if a disk is full: then nothing else could be built.

    The libraries that convert and build raise types of their own. What may be a fault of ours is printed with its traceback.
    """
    if is_full(error):
        raise error
    if isinstance(error, (ValueError, RuntimeError)):
        return one_line(error)
    traceback.print_exception(error, file=sys.stderr)
    return f"{type(error).__name__}: {one_line(error)}"


def time_all(
    time: Callable[[Mapping[str, Artifact]], Artifact], engines: Mapping[str, Artifact]
) -> tuple[Artifact | None, dict[str, str]]:
    """The latencies of the `engines` that `time` can measure, None if there are none; and {engine: the reason} for the others.

    All engines take turns. So after one has failed, the others are timed again from the beginning.
    """
    failed: dict[str, str] = {}
    while left := {name: engine for name, engine in engines.items() if name not in failed}:
        try:
            return time(left), failed
        except EngineError as error:
            failed[error.engine] = reason_of(error.reason)
    return None, failed
