"""The module `emd.emd` under the path at which the field's repositories keep it."""

from emd import (
    EarthMoverDistance,
    EarthMoverDistanceFunction,
    EarthMoverDistanceMean,
    earth_mover_distance,
)

__all__ = [
    "EarthMoverDistance",
    "EarthMoverDistanceFunction",
    "EarthMoverDistanceMean",
    "earth_mover_distance",
]
