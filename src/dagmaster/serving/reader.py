"""How the drawing process reads a raster. Loads GDAL: imported by `dagmaster.run.serve` and nobody else."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import attr
import numpy as np
import rasterio
from affine import Affine
from morecantile import Tile
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.enums import MaskFlags
from rasterio.io import DatasetReader
from rasterio.windows import Window
from rio_tiler.errors import TileOutsideBounds
from rio_tiler.io import Reader
from rio_tiler.models import ImageData

OPEN_FILES_MAX = 64
"""Rasters, and levels of them, that each thread keeps open."""
EARTH_DEGREES = 360.0
EARTH_METRES = 2 * 20037508.342789244
LONLAT = CRS.from_epsg(4326)
WEB_MERCATOR = CRS.from_epsg(3857)
TILE_PIXELS = 256
WINDOW_PIXELS_MAX = 1536**2
"""Of one band, for one tile."""
Files = OrderedDict[tuple[str, int], tuple[tuple[int, int, int], DatasetReader]]

_kept = threading.local()


def opened(path: str, level: int = -1) -> DatasetReader:
    """The raster at the path or one of its overviews, kept open for the next request of this thread.

    It is opened as GeoTIFF only, since a VRT may name any file of this machine; and anew where the file was replaced.
    """
    files: Files = _kept.__dict__.setdefault("files", OrderedDict())
    stat = os.stat(path)  # noqa: PTH116  # asked for each tile
    state = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
    key = (path, level)
    if key in files and files[key][0] != state:
        files.pop(key)[1].close()
    if key not in files:
        options = {} if level < 0 else {"OVERVIEW_LEVEL": level}
        files[key] = (state, rasterio.open(path, driver="GTiff", sharing=False, **options))
    files.move_to_end(key)
    while len(files) > OPEN_FILES_MAX:
        files.popitem(last=False)[1][1].close()
    return files[key][1]


@attr.s
class GeoTiffReader(Reader):
    """rio-tiler's reader, which is left to draw what is not drawn faster here, and made to draw what it would not.

    A raster in degrees or in web mercator may go on beyond the edge of the map. GDAL draws it where it stands; what
    lies beyond is drawn a second time, from the same file moved by one turn of the earth.
    """

    transform: Affine  # rio-tiler would allow there to be none of these
    dataset: DatasetReader
    height: int
    width: int

    def __attrs_post_init__(self) -> None:
        if not self.dataset:
            self.dataset = opened(str(self.input))
        super().__attrs_post_init__()  # type: ignore[no-untyped-call]  # rio-tiler has no types here

    def tile_exists(self, tile_x: int, tile_y: int, tile_z: int) -> bool:
        """Whether the tile touches the raster, or what of it lies beyond the map."""
        return super().tile_exists(tile_x, tile_y, tile_z) or any(
            self._touches(by, tile_x, tile_y, tile_z) for by in self._turns()
        )

    def tile(  # type: ignore[override]  # it hands on what it does not look at
        self, tile_x: int, tile_y: int, tile_z: int, **kwargs: Any
    ) -> ImageData:
        """One tile."""
        given = {name: value for name, value in kwargs.items() if value is not None}
        if self._is_plain_lonlat() and set(given) == {"indexes"}:
            found = self._lonlat_tile(tile_x, tile_y, tile_z, given["indexes"])
            if found is not None:
                return found
        return self._any_tile(tile_x, tile_y, tile_z, kwargs)

    # --- any raster --------------------------------------------------------------------------------

    def _any_tile(self, tile_x: int, tile_y: int, tile_z: int, kwargs: dict[str, Any]) -> ImageData:
        """As rio-tiler draws it; where the raster itself has nothing, what was moved onto the map."""
        found: ImageData | None = None
        if super().tile_exists(tile_x, tile_y, tile_z):
            found = super().tile(tile_x, tile_y, tile_z, **kwargs)
        for by in self._turns():
            if self._touches(by, tile_x, tile_y, tile_z):
                moved = {"src_transform": Affine.translation(by, 0) * self.transform}
                other = super().tile(tile_x, tile_y, tile_z, **kwargs, vrt_options=moved)
                found = other if found is None else _over(found, other)
        if found is None:
            raise outside(tile_x, tile_y, tile_z)
        return found

    def _turns(self) -> list[float]:
        """By how much the raster has to be moved for what lies beyond the map."""
        if self.crs is None or not (self.crs.is_geographic or self.crs == self.tms.rasterio_crs):
            return []
        turn = EARTH_DEGREES if self.crs.is_geographic else EARTH_METRES
        edge, sliver = turn / 2, abs(self.transform.a) / 2
        west, _, east, _ = self.bounds
        return [by for by, beyond in ((-turn, east > edge + sliver), (turn, west < -edge - sliver)) if beyond]

    def _touches(self, by: float, tile_x: int, tile_y: int, tile_z: int) -> bool:
        west, south, east, north = (
            self.tms.bounds(Tile(tile_x, tile_y, tile_z))
            if self.crs.is_geographic
            else self.tms.xy_bounds(Tile(tile_x, tile_y, tile_z))
        )
        left, bottom, right, top = self.bounds
        return bool(west < right + by and east > left + by and south < top and north > bottom)

    # --- longitudes and latitudes ------------------------------------------------------------------

    def _is_plain_lonlat(self) -> bool:
        """Whether a row of the map is one of the raster: then there is nothing to warp."""
        turn = self.transform
        return bool(
            self.crs == LONLAT
            and self.tms.rasterio_crs == WEB_MERCATOR
            and turn.b == turn.d == 0
            and turn.a > 0 > turn.e
            and not any(MaskFlags.alpha in flags for flags in self.dataset.mask_flag_enums)
        )

    def _lonlat_tile(self, tile_x: int, tile_y: int, tile_z: int, indexes: Any) -> ImageData | None:
        """The nearest pixel for each of the tile, from the overview that is just finer than the map.

        In web mercator the column depends on the longitude alone, and the row on the latitude alone. So a window is
        read as it is stored and its rows and columns are picked, in an eighth of the time of a warp. None where so much
        would have to be read for it that GDAL is better: a raster without overviews, from afar.
        """
        indexes = (indexes,) if isinstance(indexes, int) else tuple(indexes)
        bounds = self.tms.xy_bounds(Tile(tile_x, tile_y, tile_z))
        longitudes, latitudes = _centres(bounds)
        columns = (longitudes - self.bounds[0]) % EARTH_DEGREES / self.transform.a
        rows = (self.bounds[3] - latitudes) / -self.transform.e
        across, down = columns < self.width, (rows >= 0) & (rows < self.height)
        if not across.any() or not down.any():
            raise outside(tile_x, tile_y, tile_z)

        step = min(_step(columns), _step(rows))
        factors = self.dataset.overviews(indexes[0])
        level = sum(factor <= step for factor in factors) - 1
        source = self.dataset if level < 0 else opened(str(self.input), level)
        shape = (len(indexes), TILE_PIXELS, TILE_PIXELS)
        data = np.zeros(shape, dtype=source.dtypes[indexes[0] - 1])
        mask = np.ones(shape, dtype=bool)
        lines = _picked(rows[down], self.height, source.height)
        for run in _runs(np.flatnonzero(across), columns):
            places = _picked(columns[run], self.width, source.width)
            if places.count * lines.count > WINDOW_PIXELS_MAX:
                return None
            window = Window(places.start, lines.start, places.count, lines.count)
            here = np.ix_(np.arange(len(indexes)), np.flatnonzero(down), run)
            data[here] = source.read(indexes, window=window).take(lines.picks, 1).take(places.picks, 2)
            mask[here] = _empty(source, indexes, window, data[here], lines, places)
        return ImageData(
            np.ma.MaskedArray(data, mask=mask),
            bounds=tuple(bounds),
            crs=self.tms.rasterio_crs,
            band_names=[f"b{index}" for index in indexes],
            dataset_statistics=self._statistics(indexes),
            nodata=source.nodata,
        )

    def _statistics(self, indexes: tuple[int, ...]) -> list[tuple[float, float]] | None:
        """Lowest and highest values that the file tells, for pictures that nobody said a range for."""
        tags = [self.dataset.tags(index) for index in indexes]
        names = ("STATISTICS_MINIMUM", "STATISTICS_MAXIMUM")
        if not all(name in each for each in tags for name in names):
            return None
        return [(float(each[names[0]]), float(each[names[1]])) for each in tags]


@dataclass(frozen=True, slots=True)
class Picked:
    """A stretch of rows or columns to be read, and which of them are wanted."""

    start: int
    count: int
    picks: NDArray[np.intp]


def _picked(places: NDArray[np.float64], full: int, stored: int) -> Picked:
    """Where places of the full raster lie in one that is stored smaller."""
    found = np.minimum((places * (stored / full)).astype(np.intp), stored - 1)
    return Picked(int(found[0]), int(found[-1] - found[0] + 1), found - found[0])


def _empty(
    source: DatasetReader, indexes: tuple[int, ...], window: Window, data: NDArray[Any], lines: Picked, places: Picked
) -> NDArray[np.bool_] | bool:
    """Where the picked pixels stand for nothing."""
    if source.nodata is not None:
        found: NDArray[np.bool_] = np.isnan(data) if np.isnan(source.nodata) else data == source.nodata
        return found
    if MaskFlags.per_dataset in source.mask_flag_enums[indexes[0] - 1]:
        mask = source.read_masks(indexes[0], window=window).take(lines.picks, 0).take(places.picks, 1)
        return np.broadcast_to(mask == 0, data.shape)
    return False


def _runs(across: NDArray[np.intp], columns: NDArray[np.float64]) -> list[NDArray[np.intp]]:
    """Columns of the tile in stretches that lie side by side in the raster as well."""
    breaks = np.flatnonzero((np.diff(across) != 1) | (np.diff(columns[across]) < 0)) + 1
    return np.split(across, breaks)


def _centres(bounds: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Longitudes and latitudes of the middles of a tile's pixels, from its bounds in web mercator."""
    west, south, east, north = bounds
    middles = (np.arange(TILE_PIXELS) + 0.5) / TILE_PIXELS
    radius = EARTH_METRES / 2 / np.pi
    longitudes = np.degrees((west + (east - west) * middles) / radius)
    latitudes = np.degrees(np.arctan(np.sinh((north - (north - south) * middles) / radius)))
    return longitudes, latitudes


def _step(places: NDArray[np.float64]) -> float:
    """The smallest distance between neighbours, which a turn of the earth between them does not change."""
    return float(np.abs(np.diff(places)).min())


def _over(first: ImageData, second: ImageData) -> ImageData:
    """The second picture where the first has nothing."""
    empty = np.ma.getmaskarray(first.array)
    first.array = np.ma.MaskedArray(
        np.where(empty, second.array.data, first.array.data), mask=empty & np.ma.getmaskarray(second.array)
    )
    if first.alpha_mask is not None and second.alpha_mask is not None:
        first.alpha_mask = np.where(empty[0], second.alpha_mask, first.alpha_mask)
    return first


def outside(tile_x: int, tile_y: int, tile_z: int) -> TileOutsideBounds:
    return TileOutsideBounds(f"Tile(x={tile_x}, y={tile_y}, z={tile_z}) is outside bounds")
