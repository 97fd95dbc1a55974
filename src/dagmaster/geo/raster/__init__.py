"""Raster kernels: inspect, validate, convert, draw."""
