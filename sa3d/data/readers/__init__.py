"""File formats of 3-D models: one module a format."""
