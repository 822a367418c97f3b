"""Flow Images: what is in each image of a folder or bucket, with every image accounted for."""
