"""Point-M2AE: settings, backbone, models for downstream tasks."""
