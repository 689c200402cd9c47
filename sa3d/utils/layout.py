"""Name and version of the layout of processed data sets (:mod:`sa3d.data.store` describes it)."""

from __future__ import annotations

from typing import Final

FORMAT: Final = "sa3d-clouds"
VERSION: Final = 2
