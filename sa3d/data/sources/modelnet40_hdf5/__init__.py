"""ModelNet40 as HDF5 files of 2048 points a cloud, without normals."""
