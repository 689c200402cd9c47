"""Layers that stand for torch's own, with the same parameters and state."""

from sa3d.layers.batch_norm import BatchNorm

__all__ = ["BatchNorm"]
