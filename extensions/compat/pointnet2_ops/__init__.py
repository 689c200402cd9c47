"""Stands in for `pointnet2_ops` (Pointnet2_PyTorch) on top of point_ops, on CPU and GPU."""

from point_ops_compat import claim

claim("pointnet2_ops", __file__)
__version__ = "3.0.0+point.ops"
