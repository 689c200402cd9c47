"""Stands in for the `emd` package of the field on top of point_ops.

`emd.emd` is the function, as in the originals, whose package gives it that name.
"""

from point_ops_compat import claim

claim("emd", __file__)

from .emd import (  # noqa: E402  (after the warning of a rival)
    EarthMoverDistance,
    EarthMoverDistanceFunction,
    EarthMoverDistanceMean,
    earth_mover_distance,
)
from .emd import earth_mover_distance as emd  # noqa: E402

__all__ = [
    "EarthMoverDistance",
    "EarthMoverDistanceFunction",
    "EarthMoverDistanceMean",
    "earth_mover_distance",
    "emd",
]
