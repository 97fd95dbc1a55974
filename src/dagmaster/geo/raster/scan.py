"""One pass over every block: proves that the file reads, and gathers what the pixels say, in bounded memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.enums import ColorInterp
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader
from rasterio.windows import Window

from dagmaster.errors import CorruptedFile
from dagmaster.geo.raster.inspect import words_of

WINDOW_BYTES_MAX = 16 * 1024 * 1024
"""Pixels of one read, all bands, with their masks. Sums take eight bytes a sample, so memory is some times this."""
SAMPLES_PER_BAND = 200_000
"""Values kept for percentiles."""
USUAL_NODATA = (-9999.0, -32768.0, -32767.0, -99999.0, -999.0, 65535.0)


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
    infinite: int = 0
    """Samples that are plus or minus infinity; no other figure counts them."""
    undeclared: dict[float, int] = field(default_factory=dict)
    """Samples that equal a value which people write for nodata and forget to declare."""
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
        if values.dtype.kind == "f" and not (finite := np.isfinite(values)).all():
            self.infinite += int(np.isinf(values).sum())
            values = values[finite]
        if not values.size:
            return
        numbers = values.astype(np.float64)
        low, high, mean = float(numbers.min()), float(numbers.max()), float(numbers.mean())
        for usual in {low, high}.intersection(USUAL_NODATA):
            self.undeclared[usual] = self.undeclared.get(usual, 0) + int((values == usual).sum())
        if self.whole and values.dtype.kind == "f":
            self.whole = bool((numbers == np.trunc(numbers)).all())
        numbers -= mean
        squares = float(np.dot(numbers, numbers))
        shift = mean - self.mean
        count = self.count + numbers.size
        self.squares += squares + shift * shift * self.count * numbers.size / count
        self.mean += shift * numbers.size / count
        self.count = count
        self.minimum, self.maximum = min(self.minimum, low), max(self.maximum, high)

    def percentiles(self, *shares: float) -> tuple[float, ...] | None:
        """Approximate percentiles from the sample; None without values."""
        if self.sample is None or not self.sample.size:
            return None
        return tuple(float(value) for value in np.percentile(self.sample, shares))


@dataclass
class Scan:
    """What all pixels say."""

    bands: list[BandScan]
    alpha: int | None = None
    """Position in `bands` of the one that only says how opaque the others are."""

    @property
    def nodata_share(self) -> float:
        """Share of samples that are nodata, masked or not a number, over all bands but alpha; 0 to 1."""
        bands = [band for position, band in enumerate(self.bands) if position != self.alpha] or self.bands
        total = sum(band.total for band in bands)
        return 1.0 - sum(band.count + band.infinite for band in bands) / total if total else 1.0


def scan(raster: DatasetReader, path: Path, on_progress: Callable[[float], None] = lambda share: None) -> Scan:
    """Read every block of every band. Errors: CorruptedFile."""
    bands = [BandScan() for _ in range(raster.count)]
    samples: list[list[NDArray[np.float64]]] = [[] for _ in bands]
    windows = reading_windows(raster)
    keep = max(1, SAMPLES_PER_BAND // len(windows))
    for number, window in enumerate(windows, start=1):
        try:
            data = raster.read(window=window, masked=True)
        except (RasterioError, CPLE_BaseError, OSError, ValueError) as problem:
            where = f"rows {window.row_off} to {window.row_off + window.height - 1} do not read"
            raise CorruptedFile(path=path.name, problem=where, why=words_of(problem, path)) from problem
        for band, layer, kept in zip(bands, data, samples, strict=True):
            values = layer.compressed()
            band.add(values, layer.size)
            if values.dtype.kind == "f":
                values = values[np.isfinite(values)]
            if values.size:
                kept.append(values[:: max(1, values.size // keep)].astype(np.float64)[:keep])
        on_progress(number / len(windows))
    for band, kept in zip(bands, samples, strict=True):
        band.sample = np.concatenate(kept) if kept else None
    alpha = next((at for at, interp in enumerate(raster.colorinterp) if interp == ColorInterp.alpha), None)
    return Scan(bands, alpha)


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
        Window(column, row, min(width, raster.width - column), min(height, raster.height - row))
        for row in range(0, raster.height, height)
        for column in range(0, raster.width, width)
    ]
