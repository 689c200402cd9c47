"""What is computed from scores alone, without models and without torch."""
