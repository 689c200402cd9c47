"""A folder of meshes or point clouds of one's own."""
