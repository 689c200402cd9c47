import dataclasses

import numpy as np
import pytest
from invented import explained

from sa3d.errors import DataError
from sa3d.viz import clouds, style
from sa3d.viz import explain as ex


def small() -> ex.Explained:
    """Six points on a line, three patches of two, the last point in none."""
    points = np.array([[[0, 0, 0], [1, 0, 0], [2, 0, 0], [3, 0, 0], [4, 0, 0], [5, 0, 0]]])
    return ex.Explained(
        points=points.astype(np.float32),
        centers=points[:, [0, 2, 4]].astype(np.float32),
        patch_index=np.array([[[0, 1], [2, 1], [4, 3]]]),
        gc=np.array([[0.1, 5.0, 0.3]], np.float32),
        mask=np.array([[False, True, True]]),
        hard=np.array([[False, True, False]]),
        rebuilt=np.arange(18, dtype=np.float32).reshape(1, 2, 3, 3),
        labels=np.array([1]),
        class_names=("pin", "socket"),
    )


def test_a_point_of_any_visible_patch_was_seen():
    v, r, h = ex.VISIBLE, ex.MASKED_RANDOM, ex.MASKED_HARD
    # point 1 is shared by a visible and a hard patch; point 5 is in none, nearest centre 4
    assert ex.point_state(small(), 0).tolist() == [v, v, h, r, r, r]


def test_complexity_is_the_mean_rank_of_a_points_patches():
    # ranks of the three patches: 0, 1 and 1/2
    assert ex.point_complexity(small(), 0).tolist() == [0.0, 0.5, 1.0, 0.5, 0.5, 0.5]


def test_rebuilt_patches_follow_the_ascending_masked_ones():
    points, state = ex.rebuilt_points(small(), 0)
    assert points.shape == (6, 3)
    assert state.tolist() == [ex.MASKED_HARD] * 3 + [ex.MASKED_RANDOM] * 3


def test_saved_arrays_come_back(tmp_path):
    data = dataclasses.replace(small(), part_labels=np.zeros((1, 6), np.int64))
    ex.save_explain(tmp_path / ex.FILE, data)
    again = ex.load_explain(tmp_path / ex.FILE)
    for field in dataclasses.fields(ex.Explained):
        np.testing.assert_array_equal(getattr(again, field.name), getattr(data, field.name))
    assert again.name(0) == "socket"
    assert [path.name for path in tmp_path.iterdir()] == [ex.FILE]


def test_arrays_that_do_not_fit_are_refused(tmp_path):
    for change in (
        {"gc": np.ones((1, 4), np.float32)},
        {"patch_index": np.full((1, 3, 2), 6)},
        {"rebuilt": np.zeros((1, 3, 3, 3), np.float32)},
        {"points": np.full((1, 6, 3), np.nan, np.float32)},
    ):
        ex.save_explain(tmp_path / ex.FILE, dataclasses.replace(small(), **change))
        with pytest.raises(DataError, match=r"explain\.npz"):
            ex.load_explain(tmp_path / ex.FILE)


def test_a_torn_or_foreign_file_is_a_data_error(tmp_path):
    path = tmp_path / ex.FILE
    ex.save_explain(path, small())
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError):
        ex.load_explain(path)
    np.savez(tmp_path / "other.npz", points=np.zeros(3))
    with pytest.raises(DataError):
        ex.load_explain(tmp_path / "other.npz")


def test_near_is_large_and_up_is_up():
    near, far = clouds.view(np.array([[0.0, 0.0, 0.5], [0.0, 0.0, -0.5]]))
    assert near[2] > far[2]
    low, high = clouds.view(np.array([[0.0, -0.5, 0.0], [0.0, 0.5, 0.0]]))
    assert high[1] > low[1]


def test_complexity_colours_are_perceptually_ordered():
    # lightness (CIE L*) must move one way from easy to hard, on light and on dark
    from matplotlib.colors import to_rgb

    for palette, sign in ((style.LIGHT, -1), (style.DARK, 1)):
        rgb = np.array([to_rgb(color) for color in clouds.gradient(palette, 32)])
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        luminance = linear @ [0.2126, 0.7152, 0.0722]
        lightness = 116 * np.cbrt(luminance) - 16
        assert (sign * np.diff(lightness) > 0).all()


def test_without_scores_there_is_no_complexity_panel():
    data = dataclasses.replace(explained(clouds=1), gc=None)
    assert clouds.titles(data) == [clouds.MASKED, clouds.REBUILT]
    with style.context():
        assert len(clouds.panel_images(data, 0, style.LIGHT)) == 2


def test_scores_that_are_all_zero_are_no_scores(tmp_path):
    data = dataclasses.replace(small(), gc=np.zeros((1, 3), np.float32))
    ex.save_explain(tmp_path / ex.FILE, data)
    assert ex.load_explain(tmp_path / ex.FILE).gc is None
