"""When one of our numbers counts as reproducing a published one; docs/protocol.md explains it.

The band around a published number is two standard deviations of what is known to move such a
number between two trainings by the same recipe, or between two evaluations of the same weights:

- which test clouds a model gets right: the binomial standard error of the test split;
- which of the last epochs is read: the spread of the last epochs of the official log;
- whose code reads it: how far re-measurements of the same checkpoints lie from the publications.

A number that was selected on test is larger than what its recipe gives without selection. Its band
reaches down farther by the largest gain by selection that official logs show.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from sa3d.published.curves import summary
from sa3d.published.numbers import Goal, Numbers, Published

WIDTH = 2.0  # standard deviations
Verdict = Literal["within", "above", "below"]


@dataclass(frozen=True)
class Band:
    """What counts as reproduced; all in [0, 1].

    Attributes:
        target: the published number.
        named: what it is: `official log, mean of the last 20 epochs`.
        low, high: the band, its ends included.
        parts: its standard deviations by what they come from.
        gain: by how much selection on test may have raised the target; 0: it was not selected.
    """

    target: float
    named: str
    low: float
    high: float
    parts: dict[str, float]
    gain: float

    def verdict(self, value: float) -> Verdict:
        """Where one of our numbers lies."""
        if value < self.low:
            return "below"
        return "above" if value > self.high else "within"


def band(numbers: Numbers, result: Published, goal: Goal) -> Band:
    """The band around the target of a goal."""
    source, quantity = numbers.sources[goal.target], numbers.quantities[result.quantity]
    log, parts = result.log(goal.target), {}
    selected = source.selected_on_test
    if log is not None:
        found = summary(log)
        target, what = found.mean, "votes" if log.x == "vote" else "epochs"
        named = f"{source.name}, mean of the last {found.tail} {what}"
        if found.last is None:
            named = f"{source.name}, mean of {found.tail} {what}"
        else:
            parts["last epochs"] = found.sd
    else:
        value = result.value(goal.target)
        assert value is not None, "the target of a goal is one of the result's sources"
        target, named, selected = value.share, source.name, numbers.selected(value)
    if quantity.binomial:
        parts["test clouds"] = math.sqrt(target * (1 - target) / result.test_clouds)
    parts["evaluation code"] = evaluation_spread(numbers, quantity.family)
    half = WIDTH * math.hypot(*parts.values())
    # votes: nothing is selected among them, but the checkpoint was
    gain = selection_gain(numbers, result) if selected else 0.0
    return Band(target, named, target - gain - half, target + half, parts, gain)


def evaluation_spread(numbers: Numbers, family: str) -> float:
    """Root of the mean squared difference between re-measured and published numbers.

    Both are of the same checkpoints.
    """
    gaps = [
        again.share - each.values[0].share
        for each in numbers.results
        if numbers.quantities[each.quantity].family == family
        for again in each.values[1:]
        if numbers.sources[again.source].third_party
    ]
    assert gaps, f"numbers.yaml has no re-measured {family}"
    return math.sqrt(sum(gap * gap for gap in gaps) / len(gaps))


def selection_gain(numbers: Numbers, result: Published) -> float:
    """The largest `best epoch minus mean of the last epochs` among the nearest official logs.

    Nearest are the logs of the same task and data; where there are none, those of the same task;
    else all of the same family of quantities.
    """
    family = numbers.quantities[result.quantity].family
    alike = [r for r in numbers.results if numbers.quantities[r.quantity].family == family]
    same_task = [r for r in alike if r.match.task == result.match.task]
    same_data = [r for r in same_task if r.match.data == result.match.data]
    for nearest in (same_data, same_task, alike):
        found = [summary(log) for each in nearest for log in each.logs if log.x == "epoch"]
        if found:
            return max(each.best - each.mean for each in found)
    raise AssertionError(f"numbers.yaml has no log of the family {family}")
