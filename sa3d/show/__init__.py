"""What ``sa3d show`` draws: pictures of run folders, data sets and files."""

from typing import Final

RESULT_NEUTRAL: Final = True
