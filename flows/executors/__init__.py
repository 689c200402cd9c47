"""Where the runs of a plan are made: one module for each way, behind one interface."""
