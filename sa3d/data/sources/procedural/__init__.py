"""Endless random compositions of solids, generated while a model is trained on them."""
