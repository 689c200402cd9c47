"""Numbers of a classification: by hand, and those of scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, recall_score

from sa3d.metrics import names
from sa3d.metrics.classification import classification


def test_five_clouds_by_hand() -> None:
    labels, predicted = np.array([0, 0, 0, 0, 1]), np.array([0, 0, 0, 1, 0])
    metrics, details = classification(labels, predicted, ("lamp", "chair"))
    assert metrics == {names.TEST_ACC: 3 / 5, names.MEAN_CLASS_ACC: (3 / 4 + 0 / 1) / 2}
    assert details["matrix"] == [[3, 1], [1, 0]]
    assert details["per_class_accuracy"] == {"lamp": 0.75, "chair": 0.0}


def test_a_class_without_test_clouds_is_in_no_mean() -> None:
    # class 1 is predicted once, but no test cloud is of it
    labels, predicted = np.array([0, 0, 2, 2]), np.array([0, 1, 2, 2])
    metrics, details = classification(labels, predicted, ("lamp", "chair", "bed"))
    assert metrics[names.MEAN_CLASS_ACC] == (1 / 2 + 1) / 2
    assert details["per_class_accuracy"] == {"lamp": 0.5, "bed": 1.0}
    assert details["matrix"] == [[1, 1, 0], [0, 0, 0], [0, 0, 2]]
    assert details["class_names"] == ["lamp", "chair", "bed"]


@pytest.mark.parametrize("seed", range(5))
def test_as_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(7), rng.integers(0, 7, 90)])  # every class occurs
    predicted = np.where(rng.random(97) < 0.6, labels, rng.integers(0, 7, 97))
    metrics, details = classification(labels, predicted, tuple("abcdefg"))
    assert metrics[names.TEST_ACC] == accuracy_score(labels, predicted)
    expected = balanced_accuracy_score(labels, predicted)
    assert metrics[names.MEAN_CLASS_ACC] == pytest.approx(expected, abs=1e-12)
    recall = recall_score(labels, predicted, average=None)
    assert list(details["per_class_accuracy"].values()) == pytest.approx(recall, abs=1e-12)
