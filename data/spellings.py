"""The names that people give to splits."""

SPELLINGS = {"train": ("train", "training"), "val": ("val", "valid", "validation", "eval"), "test": ("test", "testing")}


def split_of(name: str) -> str | None:
    """The split that a folder, or a cell of a table, is called by, in any case: "train", "val" or "test"."""
    return next((split for split, names in SPELLINGS.items() if name.lower() in names), None)
