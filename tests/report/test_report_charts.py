"""Charts of the report: lines that coincide, means over epochs, labels, two columns."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from invented import CLASSIFY, config, explained, write
from page import Page

from sa3d.metrics import names as keys
from sa3d.report import write_report
from sa3d.report.figures import Chart, Trained, by_epoch, cropped, curve
from sa3d.report.pictures import strays
from sa3d.report.render import WIDEST, blocks, columns, left_share
from sa3d.report.results import RunRecord
from sa3d.report.sections import variants_of
from sa3d.viz import charts, clouds, style


def series(y, role="variant0", x=None, **options):
    y = np.array(y, dtype=float)
    x = np.arange(len(y), dtype=float) if x is None else np.array(x, dtype=float)
    return charts.Series(role, role, x, y, **options)


def test_lines_that_coincide_take_turns():
    same, other = [0.0, 1.0, 0.5], [0.0, 1.0, 0.6]
    a, b, c = "variant0", "variant1", "variant2"
    lines = [series(same, a), series(other, b), series(same, b), series(same, c),
             series(same[:2], c)]  # fmt: skip
    assert charts.turns(lines) == [(0, 3), (0, 1), (1, 3), (2, 3), (0, 1)]
    seeds = [series(same, a), series(same, a), series(same, b)]
    assert charts.turns(seeds) == [(0, 2), (0, 2), (1, 2)]
    official = series(same, behind=1)
    assert charts.turns([series(same), official]) == [(0, 1), (0, 1)]


def test_both_colours_of_lines_that_coincide_are_seen():
    """On the middle of the line; before, the last one drawn hid the first."""
    lines = [series([1, 1], "variant0"), series([1, 1], "variant1")]
    with style.context():
        figure = charts.curves(lines, style.LIGHT, x_label="epoch")
        drawn = [line for line in figure.axes[0].get_lines() if len(line.get_xdata()) == 2]
    dashes = [line._unscaled_dash_pattern for line in drawn]
    (first, (on, off)), (second, _) = dashes
    assert on == off
    assert abs(first - second) == on


def test_equal_learning_rates_are_said_to_be_equal():
    variants = list(variants_of(config(variants=("sa3df", "random-masks"))).values())
    trained = [
        Trained(each, [RunRecord(each.name, "pretrain", None, "finished",
                                 journal={keys.LR: [(s, s / 9) for s in range(10)]})], 3)
        for each in variants
    ]  # fmt: skip
    with style.context():
        drawn = curve("k", "Learning rate", "As logged.", keys.LR, trained, ends=False)
    assert drawn is not None
    assert drawn.caption == "As logged. Where lines coincide, their colours take turns."


def test_one_value_an_epoch_weighted_by_the_steps_it_is_the_mean_of():
    # 26 steps an epoch: a mean of 20 steps, then one of 6
    x = np.array([step / 26 for epoch in range(9) for step in (26 * epoch + 20, 26 * epoch + 26)])
    y = np.array([1.0, 4.0] * 9)
    places, means = by_epoch(x, y)
    assert places.tolist() == [epoch + 0.5 for epoch in range(9)]
    assert means == pytest.approx([(20 * 1.0 + 6 * 4.0) / 26] * 9)


def test_curves_of_one_value_an_epoch_or_of_few_epochs_stay_as_they_are():
    for x in (np.arange(1.0, 21.0), np.array([0.5, 1.0, 1.5, 2.0])):
        places, values = by_epoch(x, x * 2)
        assert (places is x, (values == x * 2).all()) == (True, True)


def test_values_before_the_first_step_count_to_the_first_epoch():
    places, values = by_epoch(np.arange(0, 10, 0.5), np.arange(20.0))
    assert places[0] == 0.5
    assert len(places) == 10
    assert np.isfinite(values).all()


@pytest.mark.parametrize(
    ("heights", "gap", "spread"),
    [
        ([0.2, 0.8], 0.1, [0.2, 0.8]),
        ([0.5, 0.5, 0.5], 0.1, [0.5, 0.6, 0.7]),
        ([0.95, 0.99, 1.0], 0.1, [0.8, 0.9, 1.0]),
        ([-1.0, 2.0], 0.1, [0.0, 1.0]),
    ],
)
def test_labels_keep_apart_and_inside(heights, gap, spread):
    assert charts.spread(heights, gap) == pytest.approx(spread)


def test_an_axis_is_cropped_only_where_the_first_epochs_press_the_rest_together():
    steep = series([0.1] * 3 + [0.8, 0.9] * 50)
    low, said = cropped([steep])
    assert 0.75 < low < 0.8
    assert "The axis begins at 79" in said
    assert cropped([series([0.7, 0.75, 0.8, 0.9])]) == (None, "")
    assert cropped([steep, series([0.1] * 50)]) == (None, "")  # ours would be cut off


def test_two_columns_of_about_the_same_height():
    def chart(key, height, wide=False):
        return Chart(key, "", "", f'<svg viewBox="0 0 100 {height}">', b"", wide)

    made = [chart("v", 20, wide=True), chart("a", 50), chart("tall", 100), chart("b", 80),
            chart("w", 30, wide=True), chart("c", 10)]  # fmt: skip
    found = blocks(made)
    assert [[item.key for item in block] for block in found] == [
        ["v"], ["a", "tall", "b"], ["w"], ["c"]
    ]  # fmt: skip
    assert [[item.key for item in side] for side in columns(found[1])] == [["a", "b"], ["tall"]]
    assert blocks([]) == columns([]) == []


def test_the_taller_of_two_columns_is_made_narrower():
    def side(*heights):
        return [Chart("k", "", "", f'<svg viewBox="0 0 100 {height}">', b"") for height in heights]

    assert left_share([side(50), side(50)]) == 0.5
    share = left_share([side(60), side(70)])
    assert 0.6 * share == pytest.approx(0.7 * (1 - share))
    assert left_share([side(100, 100), side(50)]) == 1 - WIDEST
    assert left_share([side(50)]) == 0.5


def cloud_with(*far):
    """A cloud whose first rebuilt patch has points at ``far`` heights."""
    data = explained(clouds=1)
    rebuilt = data.rebuilt.copy()
    rebuilt[0, 0, : len(far), 1] = far
    return dataclasses.replace(data, rebuilt=rebuilt)


def test_points_that_lie_far_off_are_shown_whole_or_not_at_all():
    assert strays(cloud_with()) == 0
    near, far = cloud_with(1.25), cloud_with(1.25, 4.0, 5.0)
    assert (strays(near), strays(far)) == (0, 2)
    for data, count in ((near, 0), (far, 2)):
        with style.context():
            figure = clouds.explain_figure(data, style.LIGHT, [0])
            figure.canvas.draw()
        axes = figure.axes[2]
        (dots,) = axes.collections
        expected = len(clouds.panels(data, 0, style.LIGHT)[2].points) - count
        assert len(dots.get_offsets()) == expected
        radius = np.sqrt(dots.get_sizes().max()) / 2 * figure.dpi / 72
        places = axes.transData.transform(dots.get_offsets())
        box = axes.get_window_extent()
        assert (places[:, 1] + radius < box.y1).all()
        assert (places[:, 1] - radius > box.y0).all()
        assert (places[:, 0] + radius < box.x1).all()
        assert (places[:, 0] - radius > box.x0).all()


def test_registered_models_are_counted_beside_the_runs(tmp_path):

    results = write(tmp_path, config(evaluations=(), epochs=2), steps=3, clouds=0)
    tree = json.loads(results.read_text())
    for name in ("a", "b"):
        tree["nodes"][f"register-{name}"] = {"kind": "register", "status": "finished"}
    results.write_text(json.dumps(tree))
    words = Page(write_report(results, tmp_path / "out")).words
    assert "runs finished 2 models registered besides 2" in words
    nodes = json.loads((tmp_path / "out" / "metrics.json").read_text())["nodes"]
    assert nodes == {"finished": 4, "unfinished": 0}


def test_runs_that_came_to_the_same_number_are_explained_where_it_stands(tmp_path):
    evaluations = [{"task": "svm", "seeds": [0, 1]}]
    settings = config(evaluations=evaluations, epochs=2)

    results = write(tmp_path, settings, steps=3, clouds=0, outcomes=False)
    tree = json.loads(results.read_text())
    for node in tree["nodes"].values():
        if node["kind"] == "evaluate":
            node["metrics"] = {keys.TEST_ACC: 0.8}
    results.write_text(json.dumps(tree))
    words = Page(write_report(results, tmp_path / "out")).words
    said = "2 runs from one pre-training: another seed of the evaluation alone changes less than"
    assert f"80.0 ± 0.0 % {said} is shown" in words
    assert "2 runs from 2 draws of random weights, which differ by less than is shown" in words
    assert "80.0 ± 0.0 % reference; 2 runs, all alike" in words


def test_the_confusion_stands_beside_the_other_charts(tmp_path):
    evaluations = [{"task": "classify", "settings": CLASSIFY}]
    results = write(tmp_path, config(evaluations=evaluations, epochs=2), steps=3, clouds=0)
    source = write_report(results, tmp_path / "out").read_text()
    start = source.index('<div class="grid"')
    assert "Validation accuracy" in source[:start]  # it has a line of its own
    left, right = source[start : source.index("</section>", start)].split("</div><div>")
    assert "Confusion" in left
    assert "Accuracy by class" in right
