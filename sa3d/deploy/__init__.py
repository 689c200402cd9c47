"""Models for other programs: one file that holds everything from a cloud to the answer."""

from typing import Final

RESULT_NEUTRAL: Final = True
