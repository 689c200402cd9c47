"""Point-MAE: settings, backbone, models for downstream tasks."""
