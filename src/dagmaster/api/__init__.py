"""The HTTP face of the authority."""
