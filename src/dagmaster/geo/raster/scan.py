"""One pass over every block: proves that the file reads, and gathers what the pixels say, in bounded memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader
from rasterio.windows import Window

from dagmaster.errors import CorruptedFile

WINDOW_BYTES_MAX = 64 * 1024 * 1024
"""Pixels of one read, all bands."""
SAMPLES_PER_BAND = 200_000
"""Values kept for percentiles."""


@dataclass
class BandScan:
    """Values of one band, over its valid pixels."""

    minimum: float = math.inf
    maximum: float = -math.inf
    count: int = 0
    total: int = 0
    mean: float = 0.0
    squares: float = 0.0
    """Sum of squared differences from the mean."""
    whole: bool = True
    """Every value is a whole number."""
    sample: NDArray[np.float64] | None = None

    @property
    def has_values(self) -> bool:
        return self.count > 0

    @property
    def spread(self) -> float:
        return self.maximum - self.minimum if self.count else 0.0

    @property
    def stddev(self) -> float:
        return math.sqrt(self.squares / self.count) if self.count else 0.0

    @property
    def valid_percent(self) -> float:
        return 100.0 * self.count / self.total if self.total else 0.0

    def add(self, values: NDArray[Any], total: int) -> None:
        """Take in the valid values of one window (parallel variance: Chan, Golub, LeVeque 1979)."""
        self.total += total
        if not values.size:
            return
        numbers = values.astype(np.float64, copy=False)
        low, high, mean = float(numbers.min()), float(numbers.max()), float(numbers.mean())
        squares = float(np.square(numbers - mean).sum())
        shift = mean - self.mean
        count = self.count + numbers.size
        self.squares += squares + shift * shift * self.count * numbers.size / count
        self.mean += shift * numbers.size / count
        self.count = count
        self.minimum, self.maximum = min(self.minimum, low), max(self.maximum, high)
        if self.whole and values.dtype.kind == "f":
            self.whole = bool(np.equal(np.mod(numbers, 1), 0).all())

    def percentiles(self, *shares: float) -> tuple[float, ...] | None:
        """Approximate percentiles from the sample; None without values."""
        if self.sample is None or not self.sample.size:
            return None
        return tuple(float(value) for value in np.percentile(self.sample, shares))


@dataclass
class Scan:
    """What all pixels say."""

    bands: list[BandScan]

    @property
    def nodata_share(self) -> float:
        """Share of samples that are nodata, masked or not a number, over all bands; 0 to 1."""
        total = sum(band.total for band in self.bands)
        return 1.0 - sum(band.count for band in self.bands) / total if total else 1.0


def scan(raster: DatasetReader, path: Path, on_progress: Callable[[float], None] = lambda share: None) -> Scan:
    """Read every block of every band. Errors: CorruptedFile."""
    bands = [BandScan() for _ in range(raster.count)]
    samples: list[list[NDArray[np.float64]]] = [[] for _ in bands]
    windows = reading_windows(raster)
    keep = max(1, SAMPLES_PER_BAND // len(windows))
    for number, window in enumerate(windows, start=1):
        try:
            data = raster.read(window=window, masked=True)
        except (RasterioError, OSError, ValueError) as problem:
            why = str(problem).strip().split("\n", 1)[0]
            raise CorruptedFile(
                path=path.name, problem=f"rows {window.row_off} and on do not read", why=why
            ) from problem
        for band, layer, kept in zip(bands, data, samples, strict=True):
            values = valid_values(layer)
            band.add(values, layer.size)
            if values.size:
                kept.append(values[:: max(1, values.size // keep)].astype(np.float64)[:keep])
        on_progress(number / len(windows))
    for band, kept in zip(bands, samples, strict=True):
        band.sample = np.concatenate(kept) if kept else None
    return Scan(bands)


def valid_values(layer: np.ma.MaskedArray[Any, Any]) -> NDArray[Any]:
    """The values of a layer that are neither masked nor NaN nor infinite."""
    values = layer.compressed()
    return values[np.isfinite(values)] if values.dtype.kind == "f" else values


def reading_windows(raster: DatasetReader) -> list[Window]:
    """Windows of whole rows of blocks, so that each block is read once and memory stays bounded.

    A row of blocks that is itself too large is cut into whole blocks.
    """
    block_height, block_width = raster.block_shapes[0]
    pixel_bytes = sum(np.dtype(name).itemsize for name in raster.dtypes) + raster.count
    pixels = max(1, WINDOW_BYTES_MAX // pixel_bytes)
    width = raster.width
    if raster.width * block_height > pixels:
        width = min(raster.width, max(block_width, pixels // block_height // block_width * block_width))
    height = min(raster.height, max(block_height, pixels // width // block_height * block_height))
    return [
        Window(column, row, min(width, raster.width - column), min(height, raster.height - row))  # type: ignore[no-untyped-call]
        for row in range(0, raster.height, height)
        for column in range(0, raster.width, width)
    ]
