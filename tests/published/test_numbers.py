"""The published numbers, retyped from the tables they were read from, and what logs give."""

from __future__ import annotations

import fnmatch
import tomllib
from pathlib import Path

import pytest
from pydantic import ValidationError

from sa3d.published.curves import curve, pretraining, readings, summary
from sa3d.published.numbers import HERE, LOGS, Facts, Numbers, numbers
from sa3d.runs.code import code_of

PB, BG, OO = (f"scanobjectnn-{name}" for name in ("pb-t50-rs", "obj-bg", "obj-only"))
# method, backbone, task, data -> quantity -> source -> per cent
TYPED = {
    ("sa3df", "point-mae", "svm", "modelnet40"): {"svm": {"seed-readme": 92.30, "readme": 92.30}},
    ("sa3df", "point-m2ae", "svm", "modelnet40-hdf5"): {"svm": {"seed-readme": 93.15}},
    ("sa3df", "point-mae", "classify", "modelnet40"): {
        "accuracy": {"seed-readme": 93.55}, "vote-max": {"seed-readme": 94.16}},
    ("sa3df", "point-m2ae", "classify", "modelnet40"): {
        "accuracy": {"seed-readme": 92.90}, "vote-max": {"seed-readme": 93.03}},
    ("sa3df", "point-mae", "classify", PB): {"accuracy": {"seed-readme": 85.35, "readme": 88.89}},
    ("sa3df", "point-mae", "classify", BG): {"accuracy": {"seed-readme": 90.70, "readme": 93.45}},
    ("sa3df", "point-mae", "classify", OO): {"accuracy": {"seed-readme": 90.36, "readme": 90.36}},
    ("sa3df", "point-m2ae", "classify", PB): {"accuracy": {"seed-readme": 86.47, "readme": 87.75}},
    ("sa3df", "point-m2ae", "classify", BG): {"accuracy": {"seed-readme": 92.42, "readme": 94.14}},
    ("sa3df", "point-m2ae", "classify", OO): {"accuracy": {"seed-readme": 89.50, "readme": 91.04}},
    ("sa3df", "point-mae", "segment", "shapenetpart"): {
        "miou-category": {"seed-readme": 84.49}, "miou-instance": {"seed-readme": 86.04}},
    ("sa3df", "point-m2ae", "segment", "shapenetpart"): {
        "miou-category": {"seed-readme": 84.91}, "miou-instance": {"seed-readme": 86.52}},
    ("mae", "point-mae", "classify", "modelnet40"): {
        "accuracy": {"point-mae": 93.2, "third-party": 92.87}, "vote-max": {"point-mae": 93.80}},
    ("mae", "point-m2ae", "classify", "modelnet40"): {
        "accuracy": {"point-m2ae": 93.43, "third-party": 92.87}, "vote-max": {"point-m2ae": 93.96}},
    ("mae", "point-mae", "classify", PB): {"accuracy": {"point-mae": 85.18, "third-party": 85.05}},
    ("mae", "point-mae", "classify", BG): {"accuracy": {"point-mae": 90.02, "third-party": 90.19}},
    ("mae", "point-mae", "classify", OO): {"accuracy": {"point-mae": 88.29, "third-party": 88.30}},
    ("mae", "point-m2ae", "classify", PB): {
        "accuracy": {"point-m2ae": 86.43, "third-party": 86.54}},
    ("mae", "point-m2ae", "classify", BG): {
        "accuracy": {"point-m2ae": 91.22, "third-party": 91.22}},
    ("mae", "point-m2ae", "classify", OO): {"accuracy": {"point-m2ae": 88.81}},
    ("mae", "point-mae", "svm", "modelnet40"): {"svm": {"point-m2ae-paper": 91.0}},
    ("mae", "point-m2ae", "svm", "modelnet40-hdf5"): {"svm": {"point-m2ae": 92.87}},
    ("mae", "point-m2ae", "svm", BG): {"svm": {"point-m2ae": 84.12}},
    ("mae", "point-mae", "segment", "shapenetpart"): {
        "miou-instance": {"point-mae": 86.1, "third-party": 86.05},
        "miou-category": {"third-party": 84.12}},
    ("mae", "point-m2ae", "segment", "shapenetpart"): {
        "miou-instance": {"point-m2ae": 86.51, "third-party": 86.17},
        "miou-category": {"point-m2ae": 84.86, "third-party": 84.60}},
}  # fmt: skip
# 5 ways 10 shots, 5 ways 20 shots, 10 ways 10 shots, 10 ways 20 shots
FEW_SHOT = {
    ("sa3df", "point-mae"): [(97.0, None), (98.3, None), (93.1, None), (95.2, None)],
    ("mae", "point-mae"): [(96.3, 2.5), (97.8, 1.8), (92.6, 4.1), (95.0, 3.0)],
    ("mae", "point-m2ae"): [(96.8, 1.8), (98.3, 1.4), (92.3, 4.5), (95.0, 3.0)],
}
# last epoch, mean and s.d. of the last 20, best, its epoch
LOGGED = {
    ("point-mae", PB, "log"): (84.9410, 84.773, 0.109, 85.3574, 317),
    ("point-mae", BG, "log"): (89.3287, 89.139, 0.184, 90.7057, 66),
    ("point-mae", OO, "log"): (88.8124, 88.830, 0.176, 90.3614, 108),
    ("point-mae", PB, "log-2024"): (88.1679, 88.315, 0.115, 88.8966, 351),
    ("point-mae", BG, "log-2024"): (91.9105, 92.246, 0.163, 93.4595, 352),
    ("point-m2ae", PB, "log"): (85.9126, 86.103, 0.138, 86.4677, 463),
    ("point-m2ae", BG, "log"): (91.7384, 91.859, 0.168, 92.4268, 191),
    ("point-m2ae", OO, "log"): (88.4682, 88.451, 0.184, 89.5009, 183),
    ("point-m2ae", PB, "log-2024"): (87.7516, 87.831, 0.070, 87.9250, 491),
    ("point-m2ae", BG, "log-2024"): (92.9432, 92.969, 0.245, 94.1480, 224),
    ("point-m2ae", OO, "log-2024"): (89.1566, 89.363, 0.309, 91.0499, 309),
    ("point-m2ae", "modelnet40", "log"): (92.8687, 92.707, 0.085, 92.9092, 437),
}


def of(method, backbone, task, data, points=1024, **settings):
    """Quantity -> published result."""
    found = numbers().of(Facts(method, backbone, task, data, points, settings))
    return {each.quantity: each for each in found}


@pytest.mark.parametrize("where", TYPED, ids="-".join)
def test_numbers_are_those_of_the_tables(where):
    found = of(*where)
    for quantity, values in TYPED[where].items():
        own = {each.source: each.value for each in found[quantity].values}
        assert values.items() <= own.items()


@pytest.mark.parametrize("where", FEW_SHOT, ids="-".join)
def test_few_shot_numbers_are_found_by_ways_and_shots(where):
    for (way, shot), (value, sd) in zip(
        [(5, 10), (5, 20), (10, 10), (10, 20)], FEW_SHOT[where], strict=True
    ):
        (result,) = of(*where, "fewshot", "modelnet-fewshot", way=way, shot=shot).values()
        assert (result.values[0].value, result.values[0].sd) == (value, sd)
        assert result.test_clouds == 10 * way * 20
    assert of(*where, "fewshot", "modelnet-fewshot", way=3, shot=10) == {}


@pytest.mark.parametrize("where", LOGGED, ids="-".join)
def test_last_epochs_are_computed_from_the_logs(where):
    backbone, data, source = where
    log = of("sa3df", backbone, "classify", data)["accuracy"].log(source)
    found = summary(log)
    last, mean, sd, best, at = LOGGED[where]
    assert 100 * found.last == pytest.approx(last, abs=1e-4)
    assert 100 * found.mean == pytest.approx(mean, abs=6e-4)
    assert 100 * found.sd == pytest.approx(sd, abs=6e-4)
    assert 100 * found.best == pytest.approx(best, abs=1e-4)
    assert (found.best_at, found.tail) == (at, 20)


def test_the_other_logs():
    svm = summary(of("sa3df", "point-mae", "svm", "modelnet40")["svm"].logs[0])
    assert (round(svm.last, 4), round(svm.mean, 5), svm.best_at) == (0.9173, 0.91848, 163)
    found = of("sa3df", "point-mae", "segment", "shapenetpart")
    for quantity, last, mean, best, at in (
        ("miou-category", 0.841418, 0.84251, 0.84493, 254),
        ("miou-instance", 0.860453, 0.85873, 0.860478, 265),
    ):
        parts = summary(found[quantity].logs[0])
        assert (parts.last, round(parts.mean, 5), parts.best, parts.best_at) == (
            last, mean, best, at
        )  # fmt: skip
    votes = summary(of("sa3df", "point-mae", "classify", "modelnet40")["vote-mean"].logs[0])
    assert (round(votes.mean, 4), round(votes.sd, 4), votes.tail) == (0.9384, 0.0012, 299)
    assert votes.last is None
    assert votes.best == pytest.approx(0.941653)


def test_readme_numbers_are_the_best_epochs_cut_off():
    """But for one, which is rounded, and one, which is the last epoch."""
    differing = {}
    for result in numbers().results:
        for readme, log in (("seed-readme", "log"), ("readme", "log-2024")):
            value, own = result.value(readme), result.log(log)
            if value is not None and own is not None:
                best = 100 * summary(own).best
                if int(100 * best + 1e-6) != round(100 * value.value):
                    differing[result.match.data, readme] = (value.value, round(best, 2))
    assert differing == {(PB, "seed-readme"): (86.47, 86.47), (PB, "readme"): (87.75, 87.92)}


def test_a_restart_counts_once_and_the_later_reading_stays():
    run = "Point-MAE+SA3DF PB-T50-RS (2024)"
    epochs, values = readings("finetune_sa3df.csv", ["test_accuracy"], run=run)
    assert epochs.tolist() == list(range(500))
    rows = [row.split(",") for row in (LOGS / "finetune_sa3df.csv").read_text().splitlines()]
    third = [float(row[4]) for row in rows if row[:2] == [run, "3"]]
    assert len(third) == 2
    assert values[3] == third[1]


def test_curves_lie_at_epochs_done():
    log = of("sa3df", "point-mae", "classify", PB)["accuracy"].logs[0]
    x, y = curve(log)
    assert (x[0], x[-1], len(x)) == (1, 500, 500)
    assert y[0] == pytest.approx(0.2817, abs=1e-4)
    parts = of("sa3df", "point-mae", "segment", "shapenetpart")["miou-instance"].logs[0]
    x, y = curve(parts)
    assert (x[0], x[-1], y[0]) == (1, 300, 0.708488)


def test_losses_of_the_log_are_unweighted():
    found = {each.metric: pretraining(each) for each in numbers().pretraining_curves}
    x, feature = found["train/feature_loss"]
    assert (x[0], x[-1]) == (0.5, 399.5)
    assert feature[14] == pytest.approx(0.0809, abs=1e-4)  # the last one as it is
    assert feature[15] == pytest.approx(1.0388 / 13.889, abs=1e-5)
    assert found["train/point_loss"][1][399] == pytest.approx(0.6201e-3, abs=1e-7)
    total = found["train/loss"][1]
    assert total[15] == pytest.approx(2.0787 + 0.5746, abs=1e-4)  # with the ranking loss, as ours
    assert found["train/lr"][1][100] == pytest.approx(9.3192e-4, abs=1e-8)


def test_the_narrowest_conditions_win():
    one, eight = (of("mae", "point-mae", "classify", "modelnet40", n) for n in (1024, 8192))
    assert one["accuracy"].value("third-party").value == 92.87
    assert eight["accuracy"].value("third-party").value == 93.35
    assert eight["vote-max"].value("point-mae").value == 94.04


def test_what_was_never_published_has_no_numbers():
    for run in (
        ("sa3df", "point-mae", "classify", "kicad"),
        ("sa3d", "point-mae", "svm", "modelnet40"),
        ("sa3df", "bag", "svm", "modelnet40"),
        ("", "point-mae", "svm", "modelnet40"),
    ):
        assert of(*run) == {}


def test_names_that_stand_nowhere_else_are_refused():
    tree = numbers().model_dump()
    tree["results"][0]["goals"][0]["target"] = "elsewhere"
    with pytest.raises(ValidationError, match="elsewhere stands nowhere else in the file"):
        Numbers.model_validate(tree)


def test_every_source_tells_where_it_is_from_and_is_used():
    known = numbers()
    used = {v.source for each in known.results for v in (*each.values, *each.logs)}
    assert used == set(known.sources)
    assert all(len(source.reference) > 10 and source.caveat for source in known.sources.values())


def test_no_result_depends_on_published_numbers():
    assert code_of(["sa3d.published.numbers", "sa3d.published.band", "sa3d.published.curves"]) == {}


def test_the_files_are_part_of_the_package():
    root = Path(__file__).parents[2]
    setup = tomllib.loads((root / "pyproject.toml").read_text())
    patterns = setup["tool"]["setuptools"]["package-data"]["sa3d"]
    files = [HERE / "numbers.yaml", *LOGS.iterdir()]
    assert len(files) == 6
    for file in files:
        name = str(file.relative_to(HERE.parent))
        assert any(fnmatch.fnmatch(name, pattern) for pattern in patterns), name
