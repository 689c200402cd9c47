"""Metrics: their names, classification, intervals."""
