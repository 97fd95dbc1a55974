"""Statistics over every block of a raster in bounded memory; nodata, masks, alpha and NaN do not count."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from rasterio.windows import Window

CHUNK_SAMPLES = 2 * 1024 * 1024
"""Samples of one band that are held at a time."""

SAMPLE_PIXELS = 1024 * 1024
"""Pixels from which percentiles are taken."""

SENTINELS = (-9999.0, -32768.0, -32767.0, -99999.0, -999.0, 65535.0)
"""Values that people write for nodata and forget to declare."""

Array = npt.NDArray[Any]
Progress = Callable[[float], None]


@dataclass(slots=True)
class Moments:
    """What is known of one band so far. Chunks are merged by Chan's formula, which keeps its digits."""

    total: int = 0
    valid: int = 0
    minimum: float = math.inf
    maximum: float = -math.inf
    mean: float = 0.0
    squares: float = 0.0
    """Sum of squared distances from the mean."""
    is_whole: bool = True
    sentinels: dict[float, int] = field(default_factory=dict)
    histogram: Array | None = None
    """Counts of the 256 values, for bands of eight bits: percentiles are exact then."""

    @property
    def stddev(self) -> float:
        """Of the population, not of a sample."""
        return math.sqrt(self.squares / self.valid) if self.valid else 0.0

    @property
    def range(self) -> float:
        """Largest minus smallest; 0 for an empty band."""
        return self.maximum - self.minimum if self.valid else 0.0

    def merge(self, count: int, mean: float, squares: float, minimum: float, maximum: float) -> None:
        """Join the moments of another chunk."""
        both = self.valid + count
        delta = mean - self.mean
        self.squares += squares + delta * delta * self.valid * count / both
        self.mean += delta * count / both
        self.valid = both
        self.minimum = min(self.minimum, minimum)
        self.maximum = max(self.maximum, maximum)

    def add(self, values: Array) -> None:
        """Join valid samples."""
        if not values.size:
            return
        if values.dtype.itemsize == 1:
            self._count(values)
            return
        low, high = float(values.min()), float(values.max())
        wide = values.astype(np.float64)
        if not (math.isfinite(low) and math.isfinite(high)):
            wide = wide[np.isfinite(wide)]
        mean = float(wide.mean()) if wide.size else 0.0
        if self.is_whole and values.dtype.kind == "f":
            self.is_whole = bool((wide == np.trunc(wide)).all())
        for sentinel in SENTINELS:
            if low <= sentinel <= high and sentinel in (low, high):
                self.sentinels[sentinel] = self.sentinels.get(sentinel, 0) + int((wide == sentinel).sum())
        wide -= mean
        self.merge(values.size, mean, float(np.dot(wide, wide)), low, high)

    def _count(self, values: Array) -> None:
        offset = 128 if values.dtype.kind == "i" else 0
        counts = np.bincount(values.astype(np.intp).ravel() + offset, minlength=256)
        if self.histogram is None:
            self.histogram = np.zeros(256, dtype=np.int64)
        self.histogram += counts
        present = np.flatnonzero(counts)
        levels = np.arange(256, dtype=np.float64) - offset
        mean = float(counts @ levels) / values.size
        squares = float(counts @ (levels - mean) ** 2)
        self.merge(values.size, mean, squares, float(levels[present[0]]), float(levels[present[-1]]))


@dataclass(frozen=True, slots=True)
class BandStatistics:
    """The statistics of one band as they are published; all of them finite."""

    minimum: float
    maximum: float
    mean: float
    stddev: float
    valid_percent: float
    p2: float
    p98: float


def chunks(dataset: Any) -> Iterator[Window]:
    """Windows that cover the raster once, made of whole blocks, of at most CHUNK_SAMPLES where a block allows it."""
    rows, columns = dataset.block_shapes[0]
    wide = min(dataset.width, max(columns, CHUNK_SAMPLES // rows // columns * columns))
    high = min(dataset.height, max(rows, CHUNK_SAMPLES // wide // rows * rows))
    for top in range(0, dataset.height, high):
        for left in range(0, dataset.width, wide):
            yield Window(left, top, min(wide, dataset.width - left), min(high, dataset.height - top))


def scan(dataset: Any, progress: Progress | None = None) -> list[Moments]:
    """Read every block of every band once and return the moments of each band."""
    found = [Moments() for _ in range(dataset.count)]
    alpha = alpha_band(dataset)
    total = dataset.width * dataset.height
    seen = 0
    for window in chunks(dataset):
        mask = shared_mask(dataset, window, alpha)
        for band, moments in zip(dataset.indexes, found, strict=True):
            values = dataset.read(band, window=window)
            moments.total += values.size
            moments.add(valid_samples(dataset, band, window, values, None if band == alpha else mask))
        seen += int(window.width) * int(window.height)
        if progress:
            progress(seen / total)
    return found


def alpha_band(dataset: Any) -> int | None:
    """The index of the band that holds opacity."""
    return next(
        (band for band, each in zip(dataset.indexes, dataset.colorinterp, strict=True) if each.name == "alpha"), None
    )


def shared_mask(dataset: Any, window: Window, alpha: int | None) -> Array | None:
    """The mask that is common to all bands (internal mask or alpha), or None when there is none."""
    if alpha is not None:
        opaque: Array = dataset.read(alpha, window=window) != 0
        return opaque
    if "per_dataset" in {flag.name for flag in dataset.mask_flag_enums[0]}:
        shown: Array = dataset.read_masks(1, window=window) != 0
        return shown
    return None


def valid_samples(dataset: Any, band: int, window: Window, values: Array, mask: Array | None) -> Array:
    """The samples that mean something, as a flat array."""
    nodata = dataset.nodatavals[band - 1]
    valid = mask
    if nodata is not None and not math.isnan(nodata):
        valid = _both(valid, values != _as_sample(nodata, values.dtype))
    elif nodata is None and "nodata" in {flag.name for flag in dataset.mask_flag_enums[band - 1]}:
        valid = _both(valid, dataset.read_masks(band, window=window) != 0)  # a nodata value that rasterio cannot name
    if values.dtype.kind == "f":
        missing = np.isnan(values)
        if missing.any():
            valid = _both(valid, ~missing)
    return values.ravel() if valid is None else values[valid]


def _both(one: Array | None, other: Array) -> Array:
    return other if one is None else one & other


def _as_sample(nodata: float, dtype: np.dtype[Any]) -> Any:
    """The nodata value as a sample of the band; itself when the band cannot hold it, and so holds none."""
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            return dtype.type(nodata)
    limits = np.iinfo(dtype)
    fits = limits.min <= nodata <= limits.max and nodata == int(nodata)
    return dtype.type(nodata) if fits else nodata


def band_statistics(dataset: Any, moments: list[Moments]) -> list[BandStatistics | None]:
    """The published statistics of each band; None for a band without a single valid sample."""
    alpha = alpha_band(dataset)
    return [
        None if not each.valid else _published(each, *_percentiles(dataset, band, each, alpha))
        for band, each in zip(dataset.indexes, moments, strict=True)
    ]


def _published(moments: Moments, p2: float, p98: float) -> BandStatistics:
    return BandStatistics(
        minimum=moments.minimum,
        maximum=moments.maximum,
        mean=moments.mean,
        stddev=moments.stddev,
        valid_percent=100.0 * moments.valid / moments.total,
        p2=p2,
        p98=p98,
    )


def _percentiles(dataset: Any, band: int, moments: Moments, alpha: int | None) -> tuple[float, float]:
    """The 2nd and 98th percentile: exact for eight bits, else from a decimated read, which overviews serve."""
    if moments.histogram is not None:
        reached = np.cumsum(moments.histogram) / moments.valid
        offset = 128 if dataset.dtypes[band - 1] == "int8" else 0
        low, high = (int(np.searchsorted(reached, share)) - offset for share in (0.02, 0.98))
        return float(low), float(high)
    values = sample(dataset, band, alpha)
    if not values.size:
        return moments.minimum, moments.maximum
    low, high = np.percentile(values.astype(np.float64), (2, 98))
    return max(float(low), moments.minimum), min(float(high), moments.maximum)


def sample(dataset: Any, band: int, alpha: int | None = None) -> Array:
    """At most SAMPLE_PIXELS valid and finite samples of a band, spread over the whole raster."""
    step = max(1.0, math.sqrt(dataset.width * dataset.height / SAMPLE_PIXELS))
    shape = (max(1, int(dataset.height / step)), max(1, int(dataset.width / step)))
    values: Array = dataset.read(band, out_shape=shape)
    shown = dataset.read_masks(band, out_shape=shape) != 0
    if alpha is not None and alpha != band:
        shown &= dataset.read(alpha, out_shape=shape) != 0
    return values[shown & np.isfinite(values)] if values.dtype.kind == "f" else values[shown]
