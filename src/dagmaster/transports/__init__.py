"""SHELF: how tasks reach workers."""
