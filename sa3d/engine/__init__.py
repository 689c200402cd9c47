"""The training engine: loop, optimiser, schedule, checkpoints, processes, CPU tuning.

It knows a method only as an ``nn.Module`` with :meth:`~sa3d.engine.types.Method.training_step`
and knows nothing of point clouds.
"""
