"""ModelNet40 and ModelNet10, resampled with normals: text files, or the pickles made of them."""
