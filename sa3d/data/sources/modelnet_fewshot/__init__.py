"""The published few-shot episodes on ModelNet40."""
