"""Full disks, and machines without a folder for temporary files."""

import errno
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LITTLE = 2**20  # bytes free, below which a failed write was for lack of space


@contextmanager
def full_disk_in_one_line(folder: Path | None = None) -> Iterator[None]:
    """Raises ValueError with one line if the body fails because the disk of `folder`, or another disk, is full.

    Libraries that write in C++ or Rust raise their own types. Therefore the free space of `folder` is checked, too.
    """
    try:
        yield
    except ValueError:
        raise
    except Exception as error:
        if not is_full(error) and (folder is None or shutil.disk_usage(folder).free > LITTLE):
            raise
        named = getattr(error, "filename", None) or folder or "a file"
        raise ValueError(
            f"no space left on the disk while writing {named}; free some space, or pass another OUT; "
            "the same command continues after the last finished stage"
        ) from error


def is_full(error: BaseException | None) -> bool:
    """Whether `error`, or an error that caused it, means that a disk is full."""
    while error is not None:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left on device" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def find_temporary_folder(folder: Path) -> None:
    """Keep temporary files in `folder`/tmp where neither TMPDIR nor /tmp can be written to (a read-only root)."""
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        (folder / "tmp").mkdir(exist_ok=True)
        tempfile.tempdir = str(folder.resolve() / "tmp")
