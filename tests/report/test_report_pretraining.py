"""Curves of pre-training: the report draws what the methods' settings declare."""

from typing import ClassVar, Literal

import invented
import pytest

from sa3d import registry
from sa3d.config.experiment import ExperimentConfig
from sa3d.methods.curves import Curve, Reference
from sa3d.methods.settings import MethodConfig
from sa3d.metrics import names as keys
from sa3d.report.pretraining import curves
from sa3d.report.results import Experiment, RunRecord
from sa3d.runs.config import runs_of
from sa3d.viz import style

GUESS = "Guessing gives ln 2 = 0.693; lower is better."


class ContrastConfig(MethodConfig):
    """A method that the report has never heard of."""

    title: ClassVar = "Contrast"

    method: Literal["contrast"] = "contrast"

    @property
    def curves(self):
        ideal = Reference("ideal", 1.0, "One is ideal.")
        return (Curve("spread", "train/spread", "Spread", "Of features.", reference=ideal),)


LOGGED = (keys.GC, keys.HARD, keys.FEATURE, keys.POINT, keys.LOSS, keys.LR, "train/spread")


def drawn(variants, logged=LOGGED, **changes):
    """Title -> chart; every run logs what SA3DF does, and a spread."""
    tree = invented.config(evaluations=(), variants=variants).model_dump(mode="json")
    for name, values in changes.items():
        tree["variants"][name.replace("_", "-")].update(values)
    settings = ExperimentConfig.model_validate(tree)
    journal = {metric: [(step, 0.5 + 0.1 * step) for step in range(4)] for metric in logged}
    runs = {
        run.spec.name: RunRecord(run.spec.name, "pretrain", run.spec, "finished", journal=journal)
        for run in runs_of(settings)
    }
    experiment = Experiment(settings, runs, {})
    with style.context():
        found = {chart.title: chart for chart in curves(experiment)}
    assert experiment.problems == []
    return found


def test_a_method_declares_its_curves(monkeypatch):
    entry = registry.Component("-", f"{__name__}:ContrastConfig")
    monkeypatch.setitem(registry.METHODS, "contrast", entry)
    found = drawn(("random-masks", "scratch"), random_masks={"method": "contrast"})
    assert list(found) == ["Spread", "Point loss", "Training loss", "Learning rate"]
    assert found["Spread"].key == "pretrain-spread"
    assert found["Spread"].caption.startswith("Of features. One is ideal. At the end: ")
    assert "ideal" in found["Spread"].svg


@pytest.mark.parametrize(
    ("variants", "titles"),
    [
        (("random-masks", "sa3df"), ["Ranking loss of geometric complexity", "Curriculum",
                                     "Feature loss"]),
        (("sa3d", "random-masks"), ["Ranking loss of geometric complexity", "Curriculum"]),
        (("random-masks", "scratch"), []),
    ],
)  # fmt: skip
def test_curves_of_the_methods_come_before_those_of_all(variants, titles):
    found = drawn(variants)
    assert list(found) == [*titles, "Point loss", "Training loss", "Learning rate"]


def test_the_line_of_guessing_stands_where_all_predictors_rank():
    name = "Ranking loss of geometric complexity"
    three = ("sa3df", "sa3d", "random-masks")
    found = drawn(three, logged=[keys.GC])
    assert GUESS in found[name].caption
    assert "ln 2: guessing" in found[name].svg
    for changed in ({"sa3d"}, {"sa3df"}, {"sa3d", "sa3df"}):
        found = drawn(
            three, logged=[keys.GC], **{name: {"gc_loss": "absolute"} for name in changed}
        )
        assert GUESS not in found[name].caption
        assert "ln 2: guessing" not in found[name].svg
