"""An experiment with only some of its variants or tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sa3d.config.experiment import ExperimentConfig
from sa3d.errors import ConfigError
from sa3d.registry import nearest


def only(
    config: ExperimentConfig,
    variants: Sequence[str],
    *,
    tasks: Sequence[str] | None = None,
    name: str | None = None,
) -> ExperimentConfig:
    """``config`` with these variants; what they distil is pre-trained, but not evaluated.

    Every run that is left is the run it was in the whole experiment, with its fingerprint.

    Args:
        config: the experiment.
        variants: names of its variants.
        tasks: those that are evaluated; None: all of the experiment.
        name: of the new experiment; None: the same.

    Raises:
        ConfigError: the experiment has no such variant, or no evaluation by such a task.
    """
    for each in variants:
        require("variant", each, list(config.variants), config.name)
    has = list(dict.fromkeys(each.task for each in config.evaluate))
    for each in tasks or ():
        require("evaluation by task", each, has, config.name)
    kept = [*variants]
    for each in kept:  # grows
        teacher = config.teacher_of(each)
        if teacher is not None and teacher not in kept:
            kept.append(teacher)
    tree = config.model_dump(mode="json")
    tree["variants"] = {key: value for key, value in tree["variants"].items() if key in kept}
    if config.reference not in variants:
        tree["reference"] = variants[0]
    tree["evaluate"] = [
        each | {"variants": asked}
        for each in tree["evaluate"]
        if (tasks is None or each["task"] in tasks) and (asked := _among(each, variants))
    ]
    tree["name"] = name or config.name
    return ExperimentConfig.model_validate(tree)


def _among(evaluation: dict[str, Any], variants: Sequence[str]) -> list[str]:
    return [name for name in evaluation["variants"] if name in variants]


def require(kind: str, name: str, known: Sequence[str], experiment: str) -> None:
    """That an experiment has what is asked for.

    Raises:
        ConfigError: it has not; with what it has.
    """
    if name not in known:
        raise ConfigError(
            f"experiment '{experiment}' has no {kind} '{name}'{nearest(name, known)}; it has: "
            f"{', '.join(known) or 'none'}"
        )
