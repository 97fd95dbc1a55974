"""Benchmarks: what the engine costs, beside peers on the same Postgres in the same run. `python -m bench --help`."""
