"""Raster handlers: thin shells around `geo/raster`."""
