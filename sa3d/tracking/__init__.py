"""The journal of a run on disk, and what sends it to MLflow."""

from typing import Final

RESULT_NEUTRAL: Final = True
