"""One run each: pre-training and the downstream tasks. Settings in, result.json out."""
