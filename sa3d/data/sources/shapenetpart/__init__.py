"""ShapeNetPart: 16 categories with 50 parts, for part segmentation."""
