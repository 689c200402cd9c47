"""Numbers and lists as text, the same on the page, in Markdown and in charts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from sa3d.metrics.intervals import Estimate, Interval
from sa3d.tasks.base import Metric


def percent(value: float) -> str:
    """``78.4 %``."""
    return f"{value * 100:.1f} %"


def number(value: float, metric: Metric) -> str:
    """A value of the metric: ``78.4 %``, or ``0.01312`` of one that is no share."""
    return percent(value) if metric.share else f"{value:.4g}"


def with_spread(found: Estimate, metric: Metric) -> str:
    """``78.4 ± 0.8 %``: mean and standard deviation over runs; of a single run its value."""
    if found.sd is None:
        return number(found.mean, metric)
    if metric.share:
        return f"{found.mean * 100:.1f} ± {found.sd * 100:.1f} %"
    return f"{found.mean:.4g} ± {found.sd:.2g}"


def span(interval: Interval, metric: Metric) -> str:
    """``73.2 to 82.8 %``."""
    if metric.share:
        return f"{interval.low * 100:.1f} to {interval.high * 100:.1f} %"
    return f"{interval.low:.4g} to {interval.high:.4g}"


def size(value: float, metric: Metric) -> str:
    """A difference without its sign: ``1.4 points``, or ``0.0123``."""
    return f"{abs(value) * 100:.1f} points" if metric.share else f"{abs(value):.3g}"


def signed(value: float, metric: Metric) -> str:
    """``+1.2`` or ``−0.4``; of a share in points."""
    text = f"{abs(value) * 100:.1f}" if metric.share else f"{abs(value):.3g}"
    return f"{'−' if value < 0 and float(text) else '+'}{text}"


def listed(words: Sequence[str], last: str = "and") -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} {last} {words[-1]}"


def counted(words: Sequence[str], most: int = 3) -> str:
    """The words that occur, the most frequent first: ``C = 0.1 (3 runs), C = 1 (1 run)``."""
    found = Counter(words).most_common()
    if len(found) == 1:
        return found[0][0]
    parts = [f"{word} ({plural(count, 'run')})" for word, count in found[:most]]
    rest = len(found) - most
    return ", ".join(parts) + (f" and {plural(rest, 'other')}" if rest > 0 else "")


def plural(count: int, word: str) -> str:
    """``1 run``, ``2 runs``."""
    return f"{count} {word}{'' if count == 1 else 's'}"


def numbered(word: str, numbers: Sequence[int]) -> str:
    """``seed 0``, ``seeds 0 and 2``, ``folds 0 to 9``."""
    ascending = sorted(numbers)
    if len(ascending) > 2 and ascending == list(range(ascending[0], ascending[-1] + 1)):
        return f"{word}s {ascending[0]} to {ascending[-1]}"
    return f"{word}{'' if len(ascending) == 1 else 's'} {listed(list(map(str, ascending)))}"
