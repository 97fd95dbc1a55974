"""A small picture of a raster: stretched, coloured, transparent where there is nothing, never black."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, Resampling
from rasterio.io import DatasetReader

Masked = np.ma.MaskedArray[Any, Any]

PREVIEW_PIXELS = 512
WELL_SPREAD = 100
"""Of 255: a picture whose middle 96 % reach so far needs no stretching."""
RAMPS: dict[str, tuple[tuple[int, int, int], ...]] = {
    "viridis": ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37)),
    "terrain": ((51, 51, 153), (0, 178, 178), (77, 204, 102), (230, 230, 128), (153, 115, 90), (255, 255, 255)),
    "blues": ((222, 235, 247), (158, 202, 225), (66, 146, 198), (8, 81, 156), (8, 48, 107)),
    "reds": ((254, 224, 210), (252, 146, 114), (239, 59, 44), (165, 15, 21), (103, 0, 13)),
    "rdylgn": ((165, 0, 38), (244, 109, 67), (255, 255, 191), (102, 189, 99), (0, 104, 55)),
    "ylorrd": ((255, 255, 204), (254, 217, 118), (253, 141, 60), (227, 26, 28), (128, 0, 38)),
    "gray": ((20, 20, 20), (250, 250, 250)),
}
CLASSES = (
    (31, 119, 180), (174, 199, 232), (255, 127, 14), (255, 187, 120), (44, 160, 44), (152, 223, 138), (214, 39, 40),
    (255, 152, 150), (148, 103, 189), (197, 176, 213), (140, 86, 75), (196, 156, 148), (227, 119, 194), (247, 182, 210),
    (127, 127, 127), (199, 199, 199), (188, 189, 34), (219, 219, 141), (23, 190, 207), (158, 218, 229),
)  # fmt: skip
COLORMAPS = {
    "dem": "terrain", "flood_depth": "blues", "hydrology": "blues", "flood_probability": "reds",
    "vegetation_index": "rdylgn", "population": "ylorrd", "continuous": "viridis", "unknown": "gray",
}  # fmt: skip


def colormap_of(raster_type: str) -> str | None:
    """The colour ramp of a single-band type; None for pictures and classes."""
    return COLORMAPS.get(raster_type)


def write_preview(source: Path, target: Path, raster_type: str) -> tuple[int, int]:
    """Draw the raster as PNG of at most 512 pixels a side; returns width and height."""
    with rasterio.open(source) as raster:
        picture = draw(raster, raster_type)
    height, width = picture.shape[1:]
    profile = {"driver": "PNG", "width": width, "height": height, "count": 4, "dtype": "uint8"}
    with rasterio.open(target, "w", **profile) as png:
        png.write(picture)
    return width, height


def draw(raster: DatasetReader, raster_type: str) -> NDArray[np.uint8]:
    """The picture as red, green, blue and alpha: shape (4, height, width)."""
    scale = max(1.0, max(raster.width, raster.height) / PREVIEW_PIXELS)
    shape = (max(1, round(raster.height / scale)), max(1, round(raster.width / scale)))
    classes = raster_type in ("categorical", "temporal") or ColorInterp.palette in raster.colorinterp
    method = Resampling.nearest if classes else Resampling.average
    bands = visible_bands(raster)
    data = raster.read(bands, out_shape=(len(bands), *shape), resampling=method, masked=True)
    alpha = _alpha(raster, data, shape)
    if ColorInterp.palette in raster.colorinterp:
        colours = _palette(data[0], raster.colormap(1), alpha)
    elif len(bands) == 1 and classes and has_few_values(data[0]):
        colours = _classes(data[0])
    elif len(bands) == 1:
        colours = _ramp(_stretch(data[0]), RAMPS[colormap_of(raster_type) or "gray"])
    else:
        colours = data.filled(0) if is_well_spread(data) else _stretched(data)
    return np.concatenate([colours, alpha[np.newaxis]])


def visible_bands(raster: DatasetReader) -> list[int]:
    """The bands to draw: red, green and blue by name or by order, or the only one."""
    named = {interp: index for index, interp in enumerate(raster.colorinterp, start=1)}
    wanted = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
    if all(colour in named for colour in wanted):
        return [named[colour] for colour in wanted]
    count = raster.count - (1 if ColorInterp.alpha in named else 0)
    if count < 3:
        return [1]
    return [5, 3, 2] if 7 <= count <= 9 else [4, 3, 2] if 10 <= count <= 13 else [1, 2, 3]


def has_few_values(layer: Masked) -> bool:
    """Few enough to have a colour each; a grey picture of eight bits is no map of classes, whatever its type says."""
    return np.unique(layer.compressed()).size <= len(CLASSES)


def is_well_spread(data: Masked) -> bool:
    """A picture of eight bits that uses its range is shown as it is."""
    if data.dtype != np.uint8 or not data.count():
        return False
    low, high = np.percentile(data.compressed(), (2, 98))
    return bool(high - low >= WELL_SPREAD)


def _stretched(data: Masked) -> NDArray[np.uint8]:
    return np.stack([(255 * _stretch(layer)).astype(np.uint8) for layer in data])


def _alpha(raster: DatasetReader, data: Masked, shape: tuple[int, int]) -> NDArray[np.uint8]:
    alpha: NDArray[Any] = raster.dataset_mask(out_shape=shape, resampling=Resampling.nearest)
    if raster.dtypes[0] != "uint8":  # wider alpha bands are scaled down, often to next to nothing
        alpha = np.where(alpha > 0, 255, 0)
    if data.dtype.kind == "f":
        alpha = np.where(np.isfinite(data.filled(np.nan)).all(axis=0), alpha, 0)
    return alpha.astype(np.uint8)


def _stretch(layer: Masked) -> NDArray[np.float64]:
    """Values as shares of the range between the 2nd and 98th percentile; a constant layer is mid-grey."""
    values = layer.compressed()
    values = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    if not values.size:
        return np.full(layer.shape, 0.5)
    low, high = (float(value) for value in np.percentile(values.astype(np.float64), (2, 98)))
    if high <= low:
        low, high = float(values.min()), float(values.max())
    if high <= low:
        return np.full(layer.shape, 0.5)
    filled = np.nan_to_num(layer.filled(0).astype(np.float64), nan=low, posinf=high, neginf=low)
    shares: NDArray[np.float64] = np.clip((filled - low) / (high - low), 0.0, 1.0)
    return shares


def _ramp(shares: NDArray[np.float64], colours: tuple[tuple[int, int, int], ...]) -> NDArray[np.uint8]:
    stops = np.linspace(0, 1, len(colours))
    table = np.array(colours, dtype=np.float64)
    return np.stack([np.interp(shares, stops, table[:, channel]) for channel in range(3)]).astype(np.uint8)


def _classes(layer: Masked) -> NDArray[np.uint8]:
    table = np.array(CLASSES, dtype=np.uint8)
    index = np.mod(np.nan_to_num(layer.filled(0)).astype(np.int64), len(CLASSES))
    return np.moveaxis(table[index], -1, 0)


def _palette(
    layer: Masked, colormap: dict[int, tuple[int, int, int, int]], alpha: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    table = np.zeros((65536 if layer.dtype == np.uint16 else 256, 4), dtype=np.uint8)
    for value, colour in colormap.items():
        table[value] = colour
    drawn = table[layer.data]
    np.minimum(alpha, drawn[..., 3], out=alpha)
    return np.moveaxis(drawn[..., :3], -1, 0)
