"""`chamfer_dist` under the path at which the field's repositories keep it.

The folder above has no `__init__.py`: `extensions` is a namespace package, in which a repository's
own folder of that name and this one stand side by side, the repository's first.
"""

from chamfer_dist import (
    ChamferDistanceL1,
    ChamferDistanceL2,
    ChamferDistanceL2_split,
    ChamferDistanceL2_unreduced,
    ChamferFunction,
)

__all__ = [
    "ChamferDistanceL1",
    "ChamferDistanceL2",
    "ChamferDistanceL2_split",
    "ChamferDistanceL2_unreduced",
    "ChamferFunction",
]
