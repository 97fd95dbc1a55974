"""SHELF: where an attempt runs."""
