"""Coordinate systems: read what people write, compare systems instead of text."""

from __future__ import annotations

import math
import re

from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.enums import WktVersion
from rasterio.errors import CRSError, RasterioError
from rasterio.warp import transform_bounds

from dagmaster.errors import CrsInvalid

TEXT_CHARACTERS_MAX = 20_000
AUTHORITY_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,20}:[A-Za-z0-9_.]{1,30}")
WKT_START = re.compile(
    r"(PROJCS|GEOGCS|COMPD_CS|GEOCCS|PROJCRS|GEOGCRS|GEODCRS|COMPOUNDCRS|BOUNDCRS|PROJECTEDCRS|GEOGRAPHICCRS|GEODETICCRS)\s*[\[(]"
)
FILE_GRIDS = re.compile(r"grids\s*=|\+init\s*=\s*[^ ]*[/\\]")
"""PROJ text that would open files of this machine."""

Box = tuple[float, float, float, float]


def parse_crs(text: str) -> CRS:
    """The coordinate system of an authority code, WKT or PROJ text. Errors: CrsInvalid."""
    text = text.strip()
    readable = AUTHORITY_CODE.fullmatch(text) or WKT_START.match(text) or text.startswith("+proj=")
    if not readable or len(text) > TEXT_CHARACTERS_MAX or FILE_GRIDS.search(text):
        raise CrsInvalid(crs=text[:80])
    try:
        crs = CRS.from_user_input(text)
    except (CRSError, ValueError) as error:
        raise CrsInvalid(crs=text[:80]) from error
    if not crs or not is_earthly(crs):
        raise CrsInvalid(crs=text[:80], why="It does not tie coordinates to the Earth.")
    return crs


def is_earthly(crs: CRS) -> bool:
    """False for a local drawing grid, which says nothing about a place."""
    return not crs.wkt.startswith(("LOCAL_CS", "ENGCRS", "ENGINEERINGCRS", "VERT_CS", "VERTCRS"))


def same(one: CRS, other: CRS) -> bool:
    """Whether both place a point of the map alike; heights do not count."""
    return bool(horizontal(one) == horizontal(other))


def horizontal(crs: CRS) -> CRS:
    """The horizontal part of a compound system; any other system as it is."""
    wkt = crs.wkt
    if not wkt.startswith("COMPD_CS["):
        return crs
    start = re.search(r'",\s*(?=(PROJCS|GEOGCS)\[)', wkt)
    if start is None:
        return crs
    depth, quoted = 0, False
    for place in range(start.end(), len(wkt)):
        letter = wkt[place]
        quoted ^= letter == '"'
        depth += 0 if quoted else (letter == "[") - (letter == "]")
        if letter == "]" and depth == 0 and not quoted:
            return CRS.from_wkt(wkt[start.end() : place + 1])
    return crs


def crs_text(crs: CRS) -> str:
    """`EPSG:4326` where an authority knows it, else WKT."""
    authority = crs.to_authority()
    return ":".join(authority) if authority else str(crs.wkt)


def short(crs: CRS) -> str:
    """The name for a message: an authority code, or the first name in the WKT."""
    text = crs_text(crs)
    quoted = re.search(r'"([^"]*)"', text)
    return f"“{quoted[1]}”" if quoted else text


def wkt2(crs: CRS) -> str | None:
    """WKT 2:2019, or None for the odd system that cannot be written so."""
    try:
        return crs.to_wkt(version=WktVersion.WKT2_2019) or None
    except CRSError:
        return None


def lonlat_bounds(crs: CRS, bounds: Box) -> Box | None:
    """West, south, east, north in EPSG:4326 within ±180; west is greater than east across the antimeridian.

    That is the order of RFC 7946 and of STAC. None when the box has no place on Earth.
    """
    lonlat = CRS.from_epsg(4326)
    try:
        box = bounds if same(crs, lonlat) else transform_bounds(horizontal(crs), lonlat, *bounds, densify_pts=41)
    except (RasterioError, CPLE_BaseError, ValueError):
        return None
    if not all(map(math.isfinite, box)):
        return None
    west, south, east, north = box
    south, north = max(-90.0, south), min(90.0, north)
    if west <= east and east - west >= 360:
        return (-180.0, south, 180.0, north)
    return (_wrapped(west), south, _wrapped(east, is_east=True), north)


def _wrapped(longitude: float, *, is_east: bool = False) -> float:
    if -180 <= longitude <= 180:
        return longitude
    turned = (longitude + 180) % 360 - 180
    return 180.0 if is_east and turned == -180 else turned
