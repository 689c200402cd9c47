"""The ground floor: files, paths, progress, telemetry. It knows nothing of the rooms above."""

from typing import Final

RESULT_NEUTRAL: Final = True
