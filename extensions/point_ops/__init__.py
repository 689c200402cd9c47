"""Geometric kernels for point clouds: C++ on the CPU, Triton on the GPU, torch as last resort.

Letters in the shapes: B clouds, N and M points, S samples, K neighbours, C channels, D axes.
"""

from ._native import announce
from ._registry import backends
from .attention import attention
from .ball_query import ball_query
from .chamfer import Chamfer, chamfer, chamfer_l1, chamfer_l2
from .emd import assignment, earth_movers_distance, match_cost, soft_match
from .fps import farthest_point_sample
from .gather import gather, group
from .group_max import group_max
from .interpolate import interpolate, three_interpolate, three_nn
from .knn import knn
from .norm import BatchNorm, batch_norm
from .norm_relu import norm_relu, norm_relu_fixed

__version__ = "0.1.0"

announce()
del announce

__all__ = [
    "BatchNorm",
    "Chamfer",
    "assignment",
    "attention",
    "backends",
    "ball_query",
    "batch_norm",
    "chamfer",
    "chamfer_l1",
    "chamfer_l2",
    "earth_movers_distance",
    "farthest_point_sample",
    "gather",
    "group",
    "group_max",
    "interpolate",
    "knn",
    "match_cost",
    "norm_relu",
    "norm_relu_fixed",
    "soft_match",
    "three_interpolate",
    "three_nn",
]
