"""Runs graphs: one verb per file."""
