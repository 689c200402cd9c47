"""Labelled parametric objects, generated from a seed."""
