"""Figures: point clouds that explain the method, and the charts of the report.

Plain arrays in, matplotlib figures out (no pyplot, no global state); matplotlib is imported
when the first figure is drawn. Nothing here knows runs, tasks or models.
"""

from typing import Final

RESULT_NEUTRAL: Final = True
