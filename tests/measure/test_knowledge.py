"""Whether a network knows anything: every kind of ignorance is found, and no honest network is suspected."""

import numpy as np
import pytest

from measure.knowledge import informedness, knowledge_of, sign_test


def labels_of(*counts: int) -> np.ndarray:
    """`counts[i]` images of class i."""
    return np.repeat(np.arange(len(counts)), counts)


def noisy(labels: np.ndarray, right: float, seed: int = 0) -> np.ndarray:
    """Predictions of which the share `right` is correct in every class; the others are any other class."""
    rng, classes = np.random.default_rng(seed), int(labels.max()) + 1
    others = (labels + rng.integers(1, classes, len(labels))) % classes
    return np.where(rng.random(len(labels)) < right, labels, others)


IGNORANT = {
    "constant, two classes": (np.zeros(100, int), labels_of(50, 50)),
    "constant, the majority": (np.zeros(400, int), labels_of(360, 40)),
    "constant, the minority": (np.ones(400, int), labels_of(360, 40)),
    "constant, 8 of 2,000 images are of the other class": (np.zeros(2000, int), labels_of(1992, 8)),
    "constant, few images": (np.zeros(10, int), labels_of(5, 5)),
    "guesses as often as the classes occur": (np.random.default_rng(0).permutation(labels_of(360, 40)), labels_of(360, 40)),
    "guesses evenly among ten classes": (np.random.default_rng(0).integers(0, 10, 500), labels_of(*[50] * 10)),
    "guesses on 60 images": (np.random.default_rng(1).integers(0, 2, 60), labels_of(30, 30)),
    "the majority, but for 2 of 40 others": (np.r_[np.zeros(398, int), 1, 1], labels_of(360, 40)),
}
HONEST = {
    "nearly perfect": (noisy(labels_of(50, 50), 0.97), labels_of(50, 50)),
    "40 % of 100 classes": (noisy(labels_of(*[5] * 100), 0.4), labels_of(*[5] * 100)),
    "below the majority's share, but it tells the classes apart": (noisy(labels_of(360, 40), 0.85), labels_of(360, 40)),
    "all of 2 defects": (labels_of(398, 2), labels_of(398, 2)),
    "misses the only 2 defects": (np.zeros(40, int), labels_of(38, 2)),
    "6 of 8 images": (np.array([0, 0, 0, 1, 1, 1, 1, 0]), labels_of(4, 4)),
    "one image": (np.zeros(1, int), np.ones(1, int)),
    "significantly better than guessing among ten": (noisy(labels_of(*[100] * 10), 0.16), labels_of(*[100] * 10)),
}


@pytest.mark.parametrize("case", IGNORANT)
def test_a_network_that_knows_nothing_is_found(case: str) -> None:
    predicted, labels = IGNORANT[case]
    assert knowledge_of(predicted, labels).learnt_nothing


@pytest.mark.parametrize("case", HONEST)
def test_an_honest_network_is_not_suspected(case: str) -> None:
    predicted, labels = HONEST[case]
    assert not knowledge_of(predicted, labels).learnt_nothing


@pytest.mark.parametrize("n", [8, 12, 20, 40])
def test_few_images_hardly_ever_accuse_a_network_of_80_percent(n: int) -> None:
    labels = labels_of(n // 2, n // 2)
    accused = sum(knowledge_of(noisy(labels, 0.8, seed), labels).learnt_nothing for seed in range(200))
    assert accused <= 10  # 5 % of 200


@pytest.mark.parametrize(("n", "nothing"), [(19, False), (20, True)])
def test_one_prediction_for_enough_unlabelled_images_is_nothing(n: int, nothing: bool) -> None:
    assert knowledge_of(np.full(n, 3), None).learnt_nothing is nothing
    assert not knowledge_of(np.r_[np.full(n, 3), 1], None).learnt_nothing


def test_the_numbers_are_right() -> None:
    found = knowledge_of(np.array([0, 0, 0, 1, 1]), np.array([0, 0, 0, 0, 1]))
    assert (found.predicted, found.predicted_share, found.majority, found.majority_share) == (0, 0.6, 0, 0.8)
    assert found.top1 == 0.8
    assert found.informedness == pytest.approx(0.75)  # balanced accuracy (0.75 + 1) / 2
    assert informedness(np.ones(4, bool), np.zeros(4, int)) == 0
    assert sign_test(np.array([True] * 5), np.array([False] * 5)) == 1 / 32
    assert sign_test(np.array([True, False]), np.array([True, False])) == 1
