"""Exported models: their card, writing and loading them."""
