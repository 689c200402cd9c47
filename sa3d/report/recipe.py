"""What sets one of our trainings apart from a published one, as far as settings tell."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from sa3d.config.base import flat
from sa3d.config.experiment import CheckpointVariant, Evaluation
from sa3d.models.settings import BackboneConfig
from sa3d.published.numbers import Goal, Numbers, Pretraining
from sa3d.report.results import Experiment

ABSENT = "nothing"


def differences(
    experiment: Experiment, evaluation: Evaluation, variant: str, goal: Goal, numbers: Numbers
) -> list[str]:
    """In words, one a setting: `pre-training epochs 15 instead of 400`. Empty: the same recipe.

    Compared are the settings that the published recipe names, and those of the backbone with its
    defaults, which are the published ones.
    """
    config = experiment.config
    found: list[str] = []
    if goal.pretraining is not None:
        found += _pretraining(experiment, variant, goal.pretraining, numbers)
        found += _model("pre-training model", config.model, {})
    own = _model("model", evaluation.model, goal.model)
    # the whole model is the same in both, but for what an evaluation may change
    found += [each for each in own if f"pre-training {each}" not in found]
    found += _unequal("points", evaluation.data.points, goal.points)
    found += _settings("", flat(evaluation.settings.model_dump(mode="json")), goal.settings)
    return found


def _pretraining(
    experiment: Experiment, variant: str, name: str, numbers: Numbers
) -> Iterator[str]:
    config, published = experiment.config, numbers.pretrainings[name]
    ours = config.variants[variant]
    if isinstance(ours, CheckpointVariant):  # the published weights themselves, or other ones
        yield from _unequal("pre-training", ours.published, name)
        return
    assert config.pretrain is not None, "a method has data"
    yield from _unequal("pre-training data", config.pretrain.data.name, published.data)
    yield from _unequal("pre-training points", config.pretrain.data.points, published.points)
    yield from _method(experiment, variant, published)
    teacher = config.teacher_of(variant)
    if published.teacher is not None and teacher is not None and teacher in config.methods:
        # it reads the same data
        for each in _method(experiment, teacher, numbers.pretrainings[published.teacher]):
            yield f"teacher's {each}"


def _method(experiment: Experiment, variant: str, published: Pretraining) -> Iterator[str]:
    config = experiment.config
    method = config.methods[variant]
    batches = [run.protocol.get("batch") for run in experiment.pretrainings(variant)]
    # the protocol of a run knows how many processes shared a batch
    batch = next(filter(None, batches), method.batch_size * method.accumulate)
    ours = flat(method.model_dump(mode="json"))
    ours |= {"masked": method.masked_of(config.model.num_tokens), "batch": batch}
    yield from _settings("pre-training ", ours, published.settings)


def _model(where: str, ours: BackboneConfig, published: Mapping[str, Any]) -> Iterator[str]:
    theirs = type(ours).model_validate(dict(published)).model_dump(mode="json")
    for key, value in ours.model_dump(mode="json").items():
        yield from _unequal(f"{where} {key}", value, theirs[key])


def _settings(where: str, ours: Mapping[str, Any], published: Mapping[str, Any]) -> Iterator[str]:
    for key, value in published.items():
        yield from _unequal(f"{where}{key}", ours.get(key, ABSENT), value)


def _unequal(what: str, ours: Any, theirs: Any) -> Iterator[str]:
    numbers = all(isinstance(v, (int, float)) for v in (ours, theirs))
    if not (math.isclose(ours, theirs, rel_tol=1e-6) if numbers else ours == theirs):
        yield f"{what} {_text(ours)} instead of {_text(theirs)}"


def _text(value: Any) -> str:
    if isinstance(value, list):
        return "/".join(map(_text, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
