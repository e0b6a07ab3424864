"""Labels in another order than the outputs: the order is found and named, and a right order stays."""

import numpy as np
import pytest

from measure.label_order import best_permutation, better_order, plausible_orders

CRACKS = sorted(f"crack_{i}" for i in range(1, 13))  # crack_1, crack_10, crack_11, crack_12, crack_2, …
NUMBERS = sorted(str(i) for i in range(12))
CASES = sorted(["Zebra", "apple", "Dog", "cat"])  # Dog, Zebra, apple, cat


def predictions(folders: list[str], outputs: list[str], right: float = 0.95, each: int = 30) -> tuple[np.ndarray, np.ndarray]:
    """(predicted, labels) of a network whose outputs mean `outputs`, on images numbered by `folders`."""
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat(np.arange(len(folders)), each))
    output = np.array([outputs.index(folders[label]) for label in labels])
    return np.where(rng.random(len(labels)) < right, output, rng.integers(0, len(folders), len(labels))), labels


@pytest.mark.parametrize(
    ("folders", "outputs", "name"),
    [
        (CRACKS, [f"crack_{i}" for i in range(1, 13)], "natural"),
        (NUMBERS, [str(i) for i in range(12)], "natural"),
        (CASES, ["apple", "cat", "Dog", "Zebra"], "natural"),
        (["a_10", "b_2", "no_1"], ["no_1", "b_2", "a_10"], "numeric"),
        (["defect", "ok"], ["ok", "defect"], "reverse"),
        (["b1", "a2"], ["a2", "b1"], "byte"),
    ],
)
def test_the_order_of_the_outputs_is_named(folders: list[str], outputs: list[str], name: str) -> None:
    better = better_order(folders, *predictions(folders, outputs))
    assert better is not None
    assert (better.name, better.classes) == (name, outputs)
    assert better.top1 > 0.9 > 0.6 > better.now


@pytest.mark.parametrize("seed", range(3))
def test_any_other_order_is_found_by_assignment(seed: int) -> None:
    folders = [f"class {letter}" for letter in "abcdefgh"]
    outputs = [folders[i] for i in np.random.default_rng(seed).permutation(8)]
    better = better_order(folders, *predictions(folders, outputs, each=40))
    assert better is not None
    assert (better.name, better.classes) == ("", outputs)


def test_two_exchanged_classes_are_found() -> None:
    folders = ["cat", "cow", "dog", "emu"]
    better = better_order(folders, *predictions(folders, ["dog", "cow", "cat", "emu"], each=50))
    assert better is not None
    assert better.classes == ["dog", "cow", "cat", "emu"]


@pytest.mark.parametrize("count", [12, 30, 100])
@pytest.mark.parametrize("right", [0.95, 0.7])
def test_two_exchanged_classes_of_many_are_found(count: int, right: float) -> None:
    """They cost few points: of 100 classes, a network that gets 95 % right still gets 93 %."""
    folders = [f"class {i:03}" for i in range(count)]
    outputs = [*folders[:3], folders[7], *folders[4:7], folders[3], *folders[8:]]
    better = better_order(folders, *predictions(folders, outputs, right, each=50))
    assert better is not None
    assert better.classes == outputs
    assert better.top1 - better.now == pytest.approx(2 * right / count, rel=0.2)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("each", [10, 50])
def test_classes_that_are_hard_to_distinguish_stay(each: int, seed: int) -> None:
    """Of 40 classes, every second one is taken for its neighbour as often as it is recognised."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(40), each))
    predicted = np.where((labels % 2 == 0) & (rng.random(len(labels)) < 0.5), labels + 1, labels)
    assert better_order([f"class {i:02}" for i in range(40)], predicted, labels) is None


@pytest.mark.parametrize("right", [0.95, 0.6, 0.3, 0.0])
@pytest.mark.parametrize("folders", [CRACKS, CASES, ["defect", "ok"]])
def test_the_right_order_stays_however_good_the_network_is(folders: list[str], right: float) -> None:
    assert better_order(folders, *predictions(folders, folders, right)) is None


def test_few_images_change_no_order() -> None:
    assert better_order(["defect", "ok"], np.array([1, 1, 0, 0, 0]), np.array([0, 0, 1, 1, 1])) is None


def test_guesses_fit_no_permutation() -> None:
    rng = np.random.default_rng(0)
    classes = [f"c{i}" for i in range(20)]
    assert best_permutation(classes, rng.integers(0, 20, 200), rng.integers(0, 20, 200)) is None


def test_orders_that_are_the_same_are_tried_once() -> None:
    assert plausible_orders(["a", "b"]) == {"reverse": ["b", "a"]}
    assert plausible_orders(["a1", "a10", "a2"]) == {"natural": ["a1", "a2", "a10"]}
