"""One run: its identity, its settings, its context, its fingerprint, its result."""
