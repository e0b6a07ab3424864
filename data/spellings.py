"""The usual names of splits."""

SPELLINGS = {"train": ("train", "training"), "val": ("val", "valid", "validation", "eval"), "test": ("test", "testing")}


def split_of(name: str) -> str | None:
    """The split ("train", "val" or "test") that a folder or a cell of a table names, in upper or lower case; None: no split."""
    return next((split for split, names in SPELLINGS.items() if name.lower() in names), None)
