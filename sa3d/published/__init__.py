"""Published numbers and official curves, each with its source: the only place where they stand.

``numbers.yaml`` holds the numbers, ``logs/`` the official training logs as figures,
:mod:`~sa3d.published.numbers` reads the first, :mod:`~sa3d.published.curves` the second,
:mod:`~sa3d.published.band` says when one of our numbers counts as reproducing a published one.
No result of a run depends on any of it.
"""

from __future__ import annotations

from typing import Final

RESULT_NEUTRAL: Final = True
