"""`emd` under the path at which the field's repositories keep it; see `extensions.chamfer_dist`."""

from .emd import (
    EarthMoverDistance,
    EarthMoverDistanceFunction,
    EarthMoverDistanceMean,
    earth_mover_distance,
)
from .emd import earth_mover_distance as emd

__all__ = [
    "EarthMoverDistance",
    "EarthMoverDistanceFunction",
    "EarthMoverDistanceMean",
    "earth_mover_distance",
    "emd",
]
