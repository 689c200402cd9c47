"""Average precision by hand, and against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from sa3d.metrics.retrieval import average_precision


def on_circle(*degrees: float) -> np.ndarray:
    angles = np.radians(degrees)
    return np.stack((np.cos(angles), np.sin(angles)), axis=1)


def test_by_hand() -> None:
    # of the first: ranked 2 (right), 3 (wrong), 4 (right): (1/1 + 2/3) / 2
    found = average_precision(on_circle(0, 10, 20, 30), np.array([7, 7, 8, 7]))
    assert found[0] == pytest.approx((1 + 2 / 3) / 2)
    assert np.isnan(found[2]), "nothing belongs to it"


def test_what_is_kept_apart_is_not_in_the_ranking() -> None:
    features, groups = on_circle(0, 1, 20, 30), np.array([7, 7, 8, 7])
    assert average_precision(features, groups)[0] == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision(features, groups, np.array([1, 1, 2, 3]))[0] == pytest.approx(1 / 2)


def test_it_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    features, groups = rng.normal(size=(60, 5)), rng.integers(0, 6, 60)
    rows = features / np.linalg.norm(features, axis=1, keepdims=True)
    for query, found in enumerate(average_precision(features, groups)):
        others = np.arange(60) != query
        truth, score = groups[others] == groups[query], rows[others] @ rows[query]
        assert found == pytest.approx(average_precision_score(truth, score))


def test_length_does_not_matter() -> None:
    rng = np.random.default_rng(1)
    features, groups = rng.normal(size=(30, 4)), rng.integers(0, 3, 30)
    longer = features * rng.uniform(0.1, 10, size=(30, 1))
    np.testing.assert_allclose(
        average_precision(longer, groups), average_precision(features, groups)
    )
