"""Warnings that the libraries below raise in our name are not ours to answer for."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """rasterio multiplies affine matrices as they used to be multiplied, and warns of rasters that we refuse."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning"))
            item.add_marker(pytest.mark.filterwarnings("ignore:.*:rasterio.errors.NotGeoreferencedWarning"))
