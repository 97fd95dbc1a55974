"""Runs one task at a time per slot: claim, execute, report."""
