"""Curves that a report draws of a pre-training. Nothing in here imports torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

RESULT_NEUTRAL: Final = True


class Reference(NamedTuple):
    """A line to hold a curve against.

    Attributes:
        label: beside the line.
        value: where it lies, in the metric's unit.
        words: a sentence for the caption.
    """

    label: str
    value: float
    words: str


@dataclass(frozen=True)
class Curve:
    """A metric of pre-training, drawn over its epochs for all variants that log it.

    Attributes:
        key: part of the chart's file name; methods that log the same metric share the chart.
        metric: its name in the journal, see :mod:`sa3d.metrics.names`.
        title, caption: above and below the chart.
        log: logarithmic axis, where all values are positive.
        steps: the value holds until the next one, instead of going there in a line.
        ends: whether the caption ends with the last values.
        reference: drawn only where all methods that declare the curve have the same.
    """

    key: str
    metric: str
    title: str
    caption: str
    log: bool = False
    steps: bool = False
    ends: bool = True
    reference: Reference | None = None
