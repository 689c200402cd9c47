"""Part segmentation with the whole model trained."""
