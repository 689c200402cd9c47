"""``sa3d …``: the command line, a thin face over tasks, data and reports."""
