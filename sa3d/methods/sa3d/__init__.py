"""SA3D: masks of the geometrically hard patches."""
