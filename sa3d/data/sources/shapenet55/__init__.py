"""ShapeNet55-34: 52 470 clouds of 55 categories, for pre-training."""
