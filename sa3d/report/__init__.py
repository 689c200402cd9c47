"""The report of an experiment: one page, one Markdown table, figures and numbers.

:func:`write_report` reads the ``results.json`` of a finished or partly failed experiment and
writes ``report.html`` (self-contained: opens without a network, follows light and dark,
prints), ``report.md``, ``metrics.json`` and ``figures/*.png``. What a failed or absent run
cannot tell, the page says; it shows no number that was not measured. :func:`write_ablation` does
the same for the ``ablation.json`` of an ablation.
"""

from __future__ import annotations

from typing import Final

from sa3d.report.ablation import write_ablation
from sa3d.report.render import write_report

RESULT_NEUTRAL: Final = True

__all__ = ["write_ablation", "write_report"]
