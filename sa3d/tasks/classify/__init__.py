"""Classification with the whole model trained."""
