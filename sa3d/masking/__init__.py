"""Mask strategies: which patches of each cloud are hidden. Boolean masks: True = masked.

A strategy is one file with one subclass of :class:`~sa3d.masking.base.MaskStrategy` and one
line in ``sa3d.registry.MASKS`` (``docs/extending.md``). Nothing is imported here: the settings
beside the strategies must not cost an import of torch.
"""
