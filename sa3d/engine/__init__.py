"""The training engine: loop, optimiser, schedule, checkpoints, processes, CPU tuning.

It knows what it trains only as a :class:`~sa3d.engine.types.TrainableModule` and knows nothing of
point clouds.
"""
