"""The program's fixtures, for tests of what it serves."""

from acceptance.conftest import program, raster, shared_program

__all__ = ["program", "raster", "shared_program"]
