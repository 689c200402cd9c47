"""Point-cloud data: raw sources in, one processed HDF5 layout, batches out.

A source (``shapes``, ``kicad``, ...) is one package with ``prepare(source, out, ...)`` and one
line in :data:`sa3d.registry.SOURCES`. Everything behind it reads only the processed file
(:mod:`sa3d.data.store`): splits, batches and transforms know nothing of raw formats.
"""
