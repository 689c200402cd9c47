"""Pre-training methods: a student backbone, a mask strategy and a loss."""
