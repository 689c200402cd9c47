"""Settings: what ``params.yaml`` may say, and reading it. Nothing in here imports torch."""

from typing import Final

RESULT_NEUTRAL: Final = True
