"""SHELF: where bytes live."""
