"""The journal of a run on disk, and what sends it to MLflow."""
