"""Raw data sources: one package a source, each with its settings."""
