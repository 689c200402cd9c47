"""Trained models in use."""

from typing import Final

RESULT_NEUTRAL: Final = True
