"""dagmaster: orchestration of geospatial data work on Postgres."""

__version__ = "0.1.0"
