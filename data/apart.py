"""The images that choose (`val`) and the images that judge (`test`) of an index folder have no image in common.

Exact copies and images that are nearly the same are on one side. The folder is changed in place.
"""

import hashlib
from pathlib import Path

import numpy as np

from data import splits
from data.loader import Split
from data.signatures import copies, groups_of, near, save_signatures, signatures, usual_distance


def split_off(images: Path, share: float) -> list[str]:
    """Move `share` of the test images to `val`; `splits.choosing` says which. Returns notes.

    Which ones depends only on the content and the classes of the images, not on the network. Raises ValueError if there are
    fewer than two distinct test images.
    """
    test = Split(images, "test")
    found = signatures(test, np.arange(len(test)))
    labels = by_name(test)
    group = groups_of(copies(found, found, near(usual_distance(found, labels))), len(test))
    distinct = len(np.unique(group))
    data = test.dataset["name"]
    if distinct < 2:
        raise ValueError(
            f"DATA {data} has {distinct} distinct test image{'s' * (distinct != 1)}; expected at least 2, one to choose on and "
            "one to judge on"
        )
    val = splits.choosing(hashes(test), group, labels, share)
    for name, chosen in (("val", val), ("test", ~val)):
        save_signatures(found[chosen], images, name)
    keep(test, {"val": val, "test": ~val}, images)
    others = " To choose on other images, put them into val/ beside test/." if test.dataset["kind"] == "folder" else ""
    notes = [
        f"{val.sum():,} of the {len(val):,} test images of {data} choose, by a hash of their content, and the other "
        f"{(~val).sum():,} judge.{others}"
    ]
    if copied := len(group) - distinct:
        notes.append(
            f"{copied:,} of these {len(val):,} images {'is a copy' if copied == 1 else 'are copies'} of others, the same or "
            "nearly; all copies of an image are on the same side."
        )
    return notes


def without_copies(images: Path) -> list[str]:
    """Remove from `val` what is also among the test images. Returns notes. Raises ValueError if nothing would be left."""
    val, test = Split(images, "val"), Split(images, "test")
    chooses, judges = (signatures(split, np.arange(len(split))) for split in (val, test))
    pairs = copies(chooses, judges, near(usual_distance(judges, test.labels)))
    copied = np.isin(np.arange(len(val)), pairs[:, 0])
    save_signatures(chooses[~copied], images, "val")
    save_signatures(judges, images, "test")
    if not copied.any():
        return []
    example = f"{val.name(int(pairs[0, 0]))} and {test.name(int(pairs[0, 1]))}"
    count = f"{copied.sum():,} of {len(val):,} images of val/ {'is' if copied.sum() == 1 else 'are'} also in test/"
    if copied.all():
        raise ValueError(
            f"DATA {val.dataset['name']}: {count}, the same or nearly (such as {example}), so no image is left to choose on; "
            "put every image, with its copies, either into val/ or into test/, or remove val/: then a part of test/ chooses"
        )
    keep(val, {"val": ~copied}, images)
    return [f"{count}, the same or nearly (such as {example}). They judge and do not choose."]


def hashes(split: Split) -> np.ndarray:
    """A hash of the content of every image, as text [N]."""
    if split.dataset["kind"] == "folder":
        return np.asarray([splits.content_hash(split.files, i) for i in range(len(split))])
    return np.asarray([hashlib.sha256(pixels.tobytes()).hexdigest()[:16] for pixels in split.array])


def by_name(split: Split) -> np.ndarray:
    """int64 [N]: the labels, numbered in the order of the names of the classes, which does not depend on the network."""
    names = np.asarray([*split.dataset["classes"], ""])
    return np.asarray(np.unique(names[split.labels], return_inverse=True)[1], np.int64)


def keep(split: Split, parts: dict[str, np.ndarray], images: Path) -> None:
    """Write the images of `split` that each of the `parts` (bool [N]) names as the split of that name."""
    of_array = split.dataset["kind"] == "array"
    labels = np.array(split.labels)  # copies, because their files are written anew
    pixels = np.array(split.array) if of_array else None
    files = {} if of_array else {name: split.files.chosen(np.flatnonzero(chosen)) for name, chosen in parts.items()}
    for name, chosen in parts.items():
        np.save(images / f"{name}.labels.npy", labels[chosen])
        if pixels is not None:
            np.save(images / f"{name}.images.npy", pixels[chosen])
        if files:
            files[name].save(images, name)
