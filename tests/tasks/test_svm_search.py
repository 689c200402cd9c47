"""How the linear SVM's C and the scaling of its features are chosen."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from sa3d.tasks.svm import search
from sa3d.tasks.svm.search import best, choose, widened

GRID = (0.001, 0.01, 0.1, 1.0)


def noisy(seed: int = 0, classes: int = 4, each: int = 30, width: int = 6):
    """Clouds of overlapping classes whose features differ in size."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), each)
    inputs = rng.normal(size=(classes, width))[labels] + rng.normal(size=(len(labels), width))
    return (inputs * 10.0 ** np.linspace(-0.5, 0.5, width) + 3.0).astype(np.float32), labels


# --- the grid ------------------------------------------------------------------------------


def peak_at(c: float):
    """An accuracy that falls with the distance from ``c``, and what was asked of it."""
    asked: list[float] = []

    def accuracy(x: float) -> float:
        asked.append(x)
        return 1.0 - 0.01 * abs(np.log10(x / c))

    return accuracy, asked


@pytest.mark.parametrize(
    ("peak", "beyond"),
    [
        (0.1, []),
        (1.0, [10.0]),  # the edge is best until its outer neighbour is known
        (0.001, [0.0001]),
        (100.0, [10.0, 100.0, 1000.0]),
        (1e-5, [1e-4, 1e-5, 1e-6]),
        (1e9, [10.0, 100.0, 1000.0, 10000.0]),  # the bounds
        (1e-9, [1e-4, 1e-5, 1e-6]),
    ],
)
def test_the_grid_goes_on_at_the_side_that_won(peak: float, beyond: list[float]) -> None:
    accuracy, asked = peak_at(peak)
    first = {c: accuracy(c) for c in GRID}
    asked.clear()
    found = widened(first, accuracy)
    assert asked == beyond
    assert list(found) == sorted([*GRID, *beyond])
    chosen = best(found)
    assert chosen == min(max(peak, search.LEAST), search.MOST)
    inside = min(found) < chosen < max(found)
    assert inside or chosen in (search.LEAST, search.MOST)


@pytest.mark.parametrize(
    ("scores", "chosen"),
    [
        ({1.0: 0.5, 10.0: 0.5, 100.0: 0.5, 1000.0: 0.5}, 10.0),  # smallest inside
        ({1.0: 0.5, 10.0: 0.4, 100.0: 0.5, 1000.0: 0.4}, 100.0),
        ({1.0: 0.5, 10.0: 0.4, 100.0: 0.5}, 1.0),  # all at an edge
        ({1.0: 0.4, 10.0: 0.6, 100.0: 0.5}, 10.0),
        ({1.0: 0.4}, 1.0),
    ],
)
def test_of_equal_cs_the_smallest_inside(scores: dict[float, float], chosen: float) -> None:
    assert best(scores) == chosen


def test_a_plateau_is_not_followed() -> None:
    scores = dict.fromkeys(GRID, 0.75)
    assert widened(scores, lambda c: pytest.fail(f"{c} was tried")) == scores


def test_a_single_c_is_compared_with_both_neighbours() -> None:
    accuracy, asked = peak_at(0.5)
    found = widened({0.5: accuracy(0.5)}, accuracy)
    assert asked[1:] == [0.05, 5.0]
    assert best(found) == 0.5


# --- cross-validation ----------------------------------------------------------------------


@pytest.mark.parametrize("jobs", [1, 2])
def test_accuracies_are_those_of_scikit_learns_own_cross_validation(jobs: int) -> None:
    inputs, labels = noisy()
    choice = choose(inputs, labels, np.arange(len(labels)), GRID, 3, seed=5, jobs=jobs)
    assert choice.splitter == "StratifiedKFold"
    assert choice.unconverged == 0
    splitter = StratifiedKFold(3, shuffle=True, random_state=5)
    for standardised, scores in choice.scores.items():
        assert set(scores) >= set(GRID)
        for c, score in scores.items():
            svm = SVC(kernel="linear", C=c)
            model = make_pipeline(StandardScaler(), svm) if standardised else svm
            expected = cross_val_score(model, inputs, labels, cv=splitter).mean()
            assert score == pytest.approx(expected), (standardised, c)
    ours = max(score for scores in choice.scores.values() for score in scores.values())
    assert choice.accuracy == ours


def test_standardised_only_where_it_is_better() -> None:
    """One feature tells the classes apart, another of ten thousand times its size does not."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 60)
    told = labels + 0.2 * rng.normal(size=120)
    noise = rng.normal(size=120)
    family = np.arange(120)
    unequal = np.stack([1e-4 * told, noise], 1).astype(np.float32)
    choice = choose(unequal, labels, family, GRID, 3, seed=0)
    assert choice.standardised
    assert choice.accuracy > 0.95 > max(choice.scores[False].values())
    model = search.classifier(choice.c, choice.standardised).fit(unequal, labels)
    assert model.score(unequal, labels) > 0.95

    easy = np.stack([10.0 * labels, noise], 1).astype(np.float32)
    choice = choose(easy, labels, family, GRID, 3, seed=0)
    assert max(choice.scores[True].values()) == choice.accuracy == 1.0
    assert not choice.standardised, "of equal ones as they are"


def test_c_is_chosen_without_family_leaks() -> None:
    """Four near-copies of each cloud, labels at random: only a leak could tell them apart."""
    rng = np.random.default_rng(0)
    family = np.repeat(np.arange(40), 4)
    labels = rng.integers(0, 2, 40)[family]
    inputs = rng.normal(size=(40, 30))[family] + 1e-3 * rng.normal(size=(160, 30))
    inputs = inputs.astype(np.float32)
    honest = choose(inputs, labels, family, GRID, 3, seed=0)
    assert honest.splitter == "StratifiedGroupKFold"
    leaky = choose(inputs, labels, np.arange(160), GRID, 3, seed=0)
    assert leaky.splitter == "StratifiedKFold"
    assert leaky.accuracy > 0.9
    assert honest.accuracy < 0.75


def test_two_clouds_of_each_class_are_enough_for_two_folds() -> None:
    inputs = np.array([[0.0], [0.1], [9.0], [9.1]], dtype=np.float32)
    labels = np.array([0, 0, 1, 1])
    assert choose(inputs, labels, np.arange(4), GRID, 2, seed=0).accuracy == 1.0


def test_fits_that_were_stopped_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, labels = noisy()
    monkeypatch.setattr(search, "ITERATIONS", 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing on the screen: it is counted
        choice = choose(inputs, labels, np.arange(len(labels)), (0.1, 1.0, 10.0), 2, seed=0)
    fits = 2 * sum(len(scores) for scores in choice.scores.values())
    assert choice.unconverged == fits
