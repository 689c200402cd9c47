"""Mask strategies: which patches of each cloud are hidden. Boolean masks: True = masked.

A strategy is one file with one subclass of :class:`~sa3d.masking.base.MaskStrategy` and one
line in ``sa3d.registry.MASKS`` (``docs/extending.md``).
"""

from sa3d.masking.base import Mask, MaskStrategy, StepContext, largest, take

__all__ = ["Mask", "MaskStrategy", "StepContext", "largest", "take"]
