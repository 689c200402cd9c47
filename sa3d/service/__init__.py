"""A model behind HTTP: clouds in, what the model says of them out."""

from typing import Final

RESULT_NEUTRAL: Final = True
