"""The search path of a benchmark that runs as a script, ``python benchmarks/NAME.py``: the root of
the repository, and not this folder, of which a file shares its name with ``point_ops``."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:] = [place for place in sys.path if Path(place or ".").resolve() != HERE]
sys.path.append(str(HERE.parent))
