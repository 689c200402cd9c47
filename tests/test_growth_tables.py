"""What ``benchmarks/growth.py`` calculates from its measurements."""

from __future__ import annotations

import pytest

from benchmarks import growth, growth_paper


def test_the_exponent_is_the_slope_on_logarithmic_axes() -> None:
    assert growth.exponent([(n, 3.0 * n**2) for n in (1, 10, 100)]) == pytest.approx(2.0)
    assert growth.exponent([(n, 7.0) for n in (2, 5)]) == pytest.approx(0.0)
    # least squares: 0, 0, 3 over 0, 1, 2 has slope 1.5
    assert growth.exponent([(1, 1.0), (10, 1.0), (100, 1000.0)]) == pytest.approx(1.5)


@pytest.mark.parametrize("points", [[(1, 1.0)], [(1, 1.0), (2, 0.0)]])
def test_no_line_is_drawn_through_what_has_none(points: list[tuple[float, float]]) -> None:
    with pytest.raises(ValueError, match="no line"):
        growth.exponent(points)


def test_hours_are_clouds_times_epochs_over_the_rate() -> None:
    assert growth_paper.hours(3600, (2, 1), (10.0, 20.0)) == pytest.approx(0.25)
    # those of docs/performance.md for the published pre-training and its teacher
    found = growth_paper.hours(52_470, growth_paper.EPOCHS, growth_paper.RATES["recorded"])
    assert found == pytest.approx(2.23, abs=0.005)
