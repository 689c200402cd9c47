"""``sa3d …``: the command line, a thin face over tasks, data and reports."""

from typing import Final

RESULT_NEUTRAL: Final = True
