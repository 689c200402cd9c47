"""Masks of the geometrically hard patches: SA3D's own strategy."""
