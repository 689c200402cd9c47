"""The ground floor: files, paths, progress, telemetry. It knows nothing of the rooms above."""
