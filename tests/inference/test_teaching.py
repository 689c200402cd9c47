"""A linear head on frozen features: what it learns, and what is honestly said of it."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sa3d.inference import teaching
from sa3d.inference.teaching import Examples, teach


@pytest.fixture(autouse=True)
def _two_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two draws of the folds say as much here as five, in less time."""
    monkeypatch.setattr(teaching, "_REPEATS", 2)
    monkeypatch.setattr(teaching, "_GRID", (0.001, 0.03, 1.0))


def examples(
    classes: int = 3,
    each: int = 10,
    apart: float = 3.0,
    family: np.ndarray | None = None,
    seed: int = 0,
) -> Examples:
    """Features of classes that lie around means that are ``apart`` from each other."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), each)
    means = rng.normal(size=(classes, 20))
    means *= apart / np.linalg.norm(means, axis=1, keepdims=True)
    features = 5.0 + 3.0 * (means[labels] + rng.normal(size=(len(labels), 20)))
    names = tuple(f"class {label}" for label in range(classes))
    family = np.arange(len(labels)) if family is None else family
    return Examples(names, features, labels, family, ())


@pytest.mark.parametrize("classes", [2, 3])
def test_the_head_has_the_probabilities_of_the_fit(classes: int) -> None:
    """Standardisation is part of its weights, and two classes have two logits."""
    given = examples(classes)
    found = teach(given)
    logits = given.features @ found.weight.T + found.bias
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    fit = make_pipeline(StandardScaler(), LogisticRegression(C=found.c, max_iter=2000))
    wanted = fit.fit(given.features, given.labels).predict_proba(given.features)
    np.testing.assert_allclose(odds / odds.sum(axis=1, keepdims=True), wanted, atol=1e-9)
    assert found.converged


def test_classes_far_apart_are_learnt_and_random_ones_are_at_chance() -> None:
    far, nothing = teach(examples(apart=20.0)), teach(examples(apart=0.0, each=30))
    assert far.accuracy is not None
    assert far.accuracy.mean == 1.0
    assert nothing.accuracy is not None
    assert nothing.accuracy.mean == pytest.approx(1 / 3, abs=0.15)
    assert nothing.accuracy.interval is not None
    assert nothing.accuracy.interval.holds(1 / 3)
    assert nothing.chance == pytest.approx(1 / 3)


def test_near_copies_of_a_family_are_not_told_apart_for_free() -> None:
    """Labels without meaning, but every cloud has four near-copies: a fold that splits families
    would find every one of them."""
    rng = np.random.default_rng(1)
    one = examples(classes=2, each=10, apart=0.0)
    features = np.repeat(one.features, 5, axis=0) + rng.normal(size=(100, 20)) * 1e-3
    labels, family = np.repeat(one.labels, 5), np.repeat(np.arange(20), 5)
    together = teach(Examples(one.class_names, features, labels, family, ()))
    split = teach(Examples(one.class_names, features, labels, np.arange(100), ()))
    assert together.accuracy is not None
    assert split.accuracy is not None
    assert split.accuracy.mean > 0.95
    assert together.accuracy.mean < 0.75


def test_no_family_is_on_both_sides_of_a_fold() -> None:
    family = np.repeat(np.arange(15), 4)
    given = examples(classes=3, each=20, family=family)
    for fit, test in teaching._splits(given.labels, given.family, 5, 0):
        assert not set(family[fit]) & set(family[test])
        assert sorted([*fit, *test]) == list(range(60))


@pytest.mark.parametrize("each", [2, 3, 4])
def test_of_few_clouds_no_accuracy_is_said(each: int) -> None:
    found = teach(examples(each=each, apart=20.0))
    assert found.accuracy is None
    assert found.c in teaching._GRID


def test_the_same_clouds_teach_the_same() -> None:
    first, second = teach(examples()), teach(examples())
    np.testing.assert_array_equal(first.weight, second.weight)
    assert first.accuracy == second.accuracy


def test_noise_wants_a_smaller_c_than_order() -> None:
    order, noise = teach(examples(apart=20.0)), teach(examples(apart=0.5))
    assert noise.c < order.c
