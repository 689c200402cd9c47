"""Part segmentation's numbers: by hand, against scikit-learn, and what must always hold."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, confusion_matrix, jaccard_score

from sa3d.metrics.segmentation import PartMeter, PartScores, allowed_parts, restricted_argmax

# two categories with parts of their own, and one that shares a part with each
MEMBERS = ((0, 1, 2), (3, 4), (2, 3))
ALLOWED = allowed_parts(MEMBERS, 6)  # part 5 is of no category


def scores_of(truth, predicted, category, allowed=ALLOWED) -> PartScores:
    meter = PartMeter(allowed)
    meter.add(*(np.asarray(each, dtype=np.int64) for each in (truth, predicted, category)))
    return meter.scores()


def drawn(clouds: int = 40, points: int = 30, seed: int = 0):
    """Random truth and predictions within the categories; many small clouds lack parts."""
    rng = np.random.default_rng(seed)
    category = rng.integers(0, len(MEMBERS), clouds)
    truth = np.stack([rng.choice(MEMBERS[c][: rng.integers(1, 4)], points) for c in category])
    guess = np.stack([rng.choice(MEMBERS[c], points) for c in category])
    return truth, np.where(rng.random(truth.shape) < 0.7, truth, guess), category


# --- by hand -------------------------------------------------------------------------------


def test_two_clouds_by_hand():
    found = scores_of([[0, 0, 1, 1], [3, 3, 4, 4]], [[0, 1, 1, 1], [3, 3, 3, 4]], [0, 1])
    # cloud 0: part 0: 1 of 2; part 1: 2 of 3; part 2 in neither: 1
    # cloud 1: part 3: 2 of 3; part 4: 1 of 2
    first, second = (1 / 2 + 2 / 3 + 1) / 3, (2 / 3 + 1 / 2) / 2
    assert found.per_cloud.tolist() == pytest.approx([first, second])
    assert found.instance == pytest.approx((first + second) / 2)
    assert found.per_category[:2].tolist() == pytest.approx([first, second])
    assert np.isnan(found.per_category[2])
    assert found.clouds.tolist() == [1, 1, 0]
    assert found.category == pytest.approx((first + second) / 2)
    assert found.point_accuracy == 6 / 8
    assert found.per_part[[0, 1, 3, 4]].tolist() == pytest.approx([1 / 2, 2 / 3, 2 / 3, 1 / 2])
    assert np.isnan(found.per_part[[2, 5]]).all()
    assert found.confusion[0, 1] == found.confusion[4, 3] == 1
    assert found.confusion.sum() == 8


def test_a_part_predicted_where_there_is_none_counts_as_zero():
    assert scores_of([[3, 3]], [[3, 4]], [1]).per_cloud.tolist() == [(1 / 2 + 0) / 2]


def test_a_part_in_neither_counts_as_one():
    assert scores_of([[3, 3]], [[3, 3]], [1]).per_cloud.tolist() == [1.0]


def test_category_miou_is_a_mean_over_categories_not_over_clouds():
    """Three clouds of category 1 at 1, one of category 0 at 1 / 3 (part 2 is in neither)."""
    truth = [[3, 4], [3, 4], [3, 4], [0, 1]]
    predicted = [[3, 4], [3, 4], [3, 4], [1, 0]]
    found = scores_of(truth, predicted, [1, 1, 1, 0])
    assert found.instance == pytest.approx((3 + 1 / 3) / 4)
    assert found.category == pytest.approx((1 + 1 / 3) / 2)


# --- against scikit-learn --------------------------------------------------------------------


def test_ious_are_those_of_scikit_learn():
    truth, predicted, category = drawn()
    found = scores_of(truth, predicted, category)
    expected = [
        jaccard_score(t, p, labels=MEMBERS[c], average="macro", zero_division=1.0)
        for t, p, c in zip(truth, predicted, category, strict=True)
    ]
    assert found.per_cloud.tolist() == pytest.approx(expected, abs=1e-12)
    own = [np.mean([e for e, c in zip(expected, category, strict=True) if c == k]) for k in (0, 1)]
    assert found.per_category[:2].tolist() == pytest.approx(own)
    pooled = jaccard_score(truth.ravel(), predicted.ravel(), labels=range(5), average=None)
    assert found.per_part[:5].tolist() == pytest.approx(pooled.tolist())


def test_confusion_and_accuracy_are_those_of_scikit_learn():
    truth, predicted, category = drawn()
    found = scores_of(truth, predicted, category)
    expected = confusion_matrix(truth.ravel(), predicted.ravel(), labels=range(6))
    assert found.confusion.tolist() == expected.tolist()
    assert found.point_accuracy == accuracy_score(truth.ravel(), predicted.ravel())


# --- what must always hold -------------------------------------------------------------------


def test_perfect_predictions_score_one():
    truth, _, category = drawn()
    found = scores_of(truth, truth, category)
    assert (found.instance, found.category, found.point_accuracy) == (1.0, 1.0, 1.0)
    assert set(found.per_cloud) == {1.0}


def test_neither_batches_nor_order_matter():
    truth, predicted, category = drawn()
    whole = scores_of(truth, predicted, category)
    order = np.random.default_rng(1).permutation(len(truth))
    meter = PartMeter(ALLOWED)
    for rows in np.array_split(order, 7):
        meter.add(truth[rows], predicted[rows], category[rows])
    found = meter.scores()
    assert found.per_cloud.tolist() == whole.per_cloud[order].tolist()
    assert found.per_category.tolist() == pytest.approx(whole.per_category.tolist())
    assert (found.confusion == whole.confusion).all()


def test_the_order_of_points_does_not_matter():
    truth, predicted, category = drawn()
    order = np.random.default_rng(2).permutation(truth.shape[1])
    moved = scores_of(truth[:, order], predicted[:, order], category)
    assert moved.per_cloud.tolist() == scores_of(truth, predicted, category).per_cloud.tolist()


@pytest.mark.parametrize(
    ("truth", "predicted", "said"),
    [
        ([[0, 3]], [[0, 0]], "a true part is none of its cloud's category"),
        ([[0, 0]], [[0, 3]], "a predicted part is none of its cloud's category"),
        ([[0, 6]], [[0, 0]], "parts from 0 to 6: there are 6"),
        ([[0, 0]], [[-1, 0]], "parts from -1 to 0: there are 6"),
    ],
)
def test_parts_of_another_category_are_refused(truth, predicted, said):
    with pytest.raises(ValueError, match=said):
        scores_of(truth, predicted, [0])


def test_nothing_cannot_be_scored():
    with pytest.raises(ValueError, match="no clouds"):
        PartMeter(ALLOWED).scores()


def test_a_part_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match=r"parts \[0, 6\] of category 1: there are 6"):
        allowed_parts(((1,), (0, 6)), 6)


def test_the_argmax_stays_within_the_category():
    logits = torch.randn(8, 20, 6, generator=torch.Generator().manual_seed(0))
    logits[..., 5] = 100.0  # the likeliest of all, and of no category
    category = torch.arange(8) % 3
    found = restricted_argmax(logits, category, torch.from_numpy(ALLOWED))
    for cloud in range(8):
        members = MEMBERS[category[cloud]]
        best = logits[cloud][:, members].argmax(1).tolist()
        assert found[cloud].tolist() == [members[at] for at in best]


def test_the_argmax_is_the_plain_one_where_all_parts_are_allowed():
    logits = torch.randn(3, 20, 6, generator=torch.Generator().manual_seed(0))
    allowed = torch.ones(2, 6, dtype=torch.bool)
    found = restricted_argmax(logits, torch.tensor([0, 1, 1]), allowed)
    assert torch.equal(found, logits.argmax(2))
