"""Stands in for `pointnet2_ops` (Pointnet2_PyTorch) on top of point_ops, on CPU and GPU."""

from point_ops_compat import claim

claim("pointnet2_ops", __file__)

from . import pointnet2_modules, pointnet2_utils  # noqa: E402  (after the warning of a rival)

__all__ = ["pointnet2_modules", "pointnet2_utils"]
__version__ = "3.0.0+point.ops"
