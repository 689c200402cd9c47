"""SA3D: masked autoencoders on point clouds that mask the geometrically hard patches first."""

__version__ = "0.1.0"
