"""Signatures that find copies of an image: a digest of its decoded pixels, and a tiny picture of it.

Equal digests are equal images. A copy that was encoded again, scaled a little or shifted by a grey level has nearly the same
tiny picture: how near is measured against how far apart the images of one class are, because parts under one camera differ
less than photographs.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.sparse import coo_array  # type: ignore[import-untyped, unused-ignore]
from scipy.sparse.csgraph import connected_components  # type: ignore[import-untyped, unused-ignore]
from scipy.spatial import cKDTree  # type: ignore[import-untyped, unused-ignore]
from torch.utils.data import Dataset

from core.console import progress
from data import workers
from data.loader import Groups, Split

# A tiny picture is SIDE x SIDE. Chosen on training images: of 1,000 images of Fashion-MNIST at least 95 % of the copies are
# found (JPEG of quality 50 to 95, scaled to 90 %, or both). Of 10,000 images of Fashion-MNIST 15 have another image as near as
# that, of 10,000 of CIFAR-10 3.
SIDE = 8
NEAR = 1 / 12  # of the distance between images of one class
NEAREST = 0.02 * 255  # and never more than this, as root mean square over the tiny picture
NEIGHBOURS = 8
AXES = 12
GROUP = 64


@dataclass(frozen=True)
class Signatures:
    """The signatures of N images: `digests` uint64 [N], `tiny` float32 [N, SIDE * SIDE * C], 0 … 255."""

    digests: np.ndarray
    tiny: np.ndarray

    def __getitem__(self, chosen: np.ndarray) -> "Signatures":
        return Signatures(self.digests[chosen], self.tiny[chosen])

    def __len__(self) -> int:
        return len(self.digests)


class Signing(Dataset[tuple[np.ndarray, np.ndarray] | str]):
    """A split that returns signatures, or the message of the error if an image has changed."""

    def __init__(self, split: Split) -> None:
        self.split = split

    def __getitems__(self, indices: list[int]) -> tuple[np.ndarray, np.ndarray] | str:
        try:
            images = [self.split.readable(i)[1] for i in indices]
        except ValueError as error:
            return str(error)
        return np.asarray([digest(image) for image in images], np.uint64), np.stack([tiny(image) for image in images])


def signatures(split: Split, indices: np.ndarray) -> Signatures:
    """The signatures of the images `indices` of the split, decoded in worker processes. ValueError if a file has changed."""
    channels = split.spec["channels"]
    digests, pictures = np.empty(len(indices), np.uint64), np.empty((len(indices), SIDE * SIDE * channels), np.uint8)
    groups = Groups(indices, GROUP)
    count = workers.wanted(len(groups)) if split.dataset["kind"] == "folder" else 0
    done = 0
    with progress() as bar:
        task = bar.add_task(f"compare {split.split} images", total=len(indices))
        for found in workers.results(Signing(split), groups, count):
            if isinstance(found, str):
                raise ValueError(found)
            size = len(found[0])
            digests[done : done + size], pictures[done : done + size] = found
            done += size
            bar.advance(task, size)
    return Signatures(digests, pictures.astype(np.float32))


def save_signatures(found: Signatures, images: Path, split: str) -> None:
    np.savez(images / f"{split}.signatures.npz", digests=found.digests, tiny=found.tiny)


def signatures_of(images: Path, split: str) -> Signatures:
    """The signatures of all images of a split, as `save_signatures` left them if it did."""
    file = images / f"{split}.signatures.npz"
    if not file.exists():
        whole = Split(images, split)
        return signatures(whole, np.arange(len(whole)))
    with np.load(file) as arrays:
        return Signatures(arrays["digests"], arrays["tiny"])


def digest(image: Image.Image) -> int:
    content = hashlib.blake2b(repr(image.size).encode() + image.tobytes(), digest_size=8)
    return int.from_bytes(content.digest())


def tiny(image: Image.Image) -> np.ndarray:
    """uint8 [SIDE * SIDE * C]. Pillow's triangle averages: neither JPEG's blocks nor another size of the image move it much."""
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR)).ravel()


def usual_distance(found: Signatures, labels: np.ndarray, pairs: int = 4000) -> float:
    """The first quartile of the distances between different images of one class; 0 if no class has two images."""
    order = np.argsort(labels, kind="stable")
    _, start, count = np.unique(labels[order], return_index=True, return_counts=True)
    rng = np.random.default_rng(0)
    place = rng.integers(0, len(order), pairs)
    own = np.searchsorted(start, place, side="right") - 1
    one, other = order[place], order[start[own] + rng.integers(0, count[own])]
    different = found.digests[one] != found.digests[other]
    between = distance(found.tiny[one[different]], found.tiny[other[different]])
    return float(np.quantile(between, 0.25)) if len(between) else 0.0


def near(usual: float) -> float:
    """The largest distance of copies, if `usual` is the distance between images of one class."""
    return min(NEAREST, NEAR * usual)


def distance(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Root mean square difference of tiny pictures [N, D]: [N]."""
    return np.asarray(np.sqrt(np.mean((one - other) ** 2, axis=1)))


def copies(found: Signatures, among: Signatures, within: float) -> np.ndarray:
    """Pairs [P, 2]: an index into `found`, and the index into `among` of an image that it is a copy of.

    If there are many such images, only some of them. If both arguments are the same object, an image is no copy of itself.
    """
    pairs = [equal_pairs(found.digests, among.digests)]
    if within > 0 and len(found) and len(among):
        pairs.append(near_pairs(found.tiny, among.tiny, within))
    both = np.concatenate(pairs)
    return both[both[:, 0] != both[:, 1]] if found is among else both


def groups_of(pairs: np.ndarray, count: int) -> np.ndarray:
    """int64 [count]: for each image the first one that it is connected with by `pairs`."""
    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    _, component = connected_components(graph, directed=False)
    _, first, own = np.unique(component, return_index=True, return_inverse=True)
    return np.asarray(first[own], np.int64)


def equal_pairs(digests: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Each image with the first one of `among` that has its digest."""
    known, first = np.unique(among, return_index=True)
    place = np.minimum(np.searchsorted(known, digests), max(len(known) - 1, 0))
    equal = np.flatnonzero(known[place] == digests) if len(known) else np.empty(0, np.int64)
    return np.stack([equal, first[place[equal]]], axis=1)


def near_pairs(pictures: np.ndarray, among: np.ndarray, within: float) -> np.ndarray:
    """Pairs of each image with those of its nearest neighbours that are at most `within` away.

    The search uses only the principal axes of the images. Along these, the distance of two images is never larger than their
    full distance, so no near image is missed.
    """
    different, place = np.unique(among, axis=0, return_index=True)  # a tree of equal points is slow
    sample = different[np.linspace(0, len(different) - 1, min(len(different), 5000)).astype(int)]
    centred = sample - sample.mean(axis=0)
    main = np.linalg.eigh(centred.T @ centred)[1][:, -AXES:].astype(np.float32)
    reach = within * among.shape[1] ** 0.5
    _, found = cKDTree(different @ main).query(pictures @ main, k=NEIGHBOURS + 1, distance_upper_bound=reach * 1.001)
    one, other = np.repeat(np.arange(len(pictures)), NEIGHBOURS + 1), found.ravel()
    one, other = one[other < len(different)], place[other[other < len(different)]]
    close = distance(pictures[one], among[other]) <= within
    return np.stack([one[close], other[close]], axis=1)
