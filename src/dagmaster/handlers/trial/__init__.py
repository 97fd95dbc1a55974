"""Handlers for trying things out: no data, no storage."""
