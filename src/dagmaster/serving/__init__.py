"""Public faces of what is published: the STAC API, the files, and pictures of rasters."""
