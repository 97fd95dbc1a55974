"""Files that somebody might submit by mistake or by malice, made in one folder."""

from __future__ import annotations

import os
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import rasterio
from rasterio.enums import ColorInterp

from dagmaster.dag.library import BUNDLED
from executors import misbehaving
from geo.factories import bomb, declaring, make_raster, noise, terrain

MIB = 1024 * 1024
VRT = (
    '<VRTDataset rasterXSize="100" rasterYSize="1"><VRTRasterBand dataType="Byte" band="1" subClass="VRTRawRasterBand">'
    '<SourceFilename relativetoVRT="0">/etc/passwd</SourceFilename></VRTRasterBand></VRTDataset>'
)
HEAD = "workflow_id: mine\nname: Mine\nversion: 1\ninputs:\n  message: {type: string, default: hello}\nnodes:\n"
BODY = """\
  start: {type: start, next: a}
  a: {handler: echo, params: {message: "{{ inputs.message }}"}, next: b}
  b: {handler: size_check, params: {size_bytes: 1}, next: end}
  end: {type: end}
"""
BAD_WORKFLOWS = {
    "not-yaml": HEAD + "  start: {type: start, next: a\n",
    "cycle": HEAD + BODY.replace("next: end", "next: [a, end]"),
    "unknown-handler": HEAD + BODY.replace("echo", "ecko"),
    "unknown-param": HEAD + BODY.replace("size_bytes", "size_bytse"),
    "unknown-reference": HEAD + BODY.replace("inputs.message", "inputs.mesage"),
    "unknown-output": HEAD + BODY.replace("size_bytes: 1", 'size_bytes: "{{ nodes.a.output.tusk_id }}"'),
    "duplicate-key": HEAD + BODY + "  a: {handler: echo, next: b}\n",
    "many-nodes": HEAD + "".join(f"  n{number}: {{type: end}}\n" for number in range(100_000)),
    "many-short-nodes": HEAD + "  n: [" + "1," * 100_000 + "]\n",
    "alias-bomb": "a: &a [x, x, x, x, x, x, x, x, x]\n"
    + "".join(f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in pairwise("abcdefghi")),
}
"""By the name of their file; each has one fault."""
ONE_TASK = """\
workflow_id: one_task
name: One task
version: 1
inputs:
  word: {{type: string, default: word}}
  number: {{type: integer, default: 0}}
nodes:
  start: {{type: start, next: work}}
  work:
    handler: {handler}
    params: {{word: "{{{{ inputs.word }}}}", number: "{{{{ inputs.number }}}}"}}
    timeout_seconds: {timeout_seconds}
    retry: {{max_attempts: 0}}
    next: end
  end: {{type: end}}
"""
HANDLERS = (
    "test.raise", "test.unstorable", "test.print", "test.exit", "test.segfault", "test.allocate", "test.write", "test.stubborn",
)  # fmt: skip
HANG_SECONDS = 1


def make_workflows(folder: Path) -> Path:
    """Definitions with faults, and one workflow for each handler that does what it should not."""
    folder.mkdir()
    for name, text in BAD_WORKFLOWS.items():
        (folder / f"{name}.yaml").write_text(text)
    (folder / "not-text.yaml").write_bytes(b"\xff\xfe\x00\x80" * 100)
    (folder / "inputs.json").write_text('{"message": ')
    ingest = (BUNDLED / "raster_ingest.yaml").read_text().replace("raster_ingest", "ingest_once", 1)
    (folder / "ingest-once.yaml").write_text(f"{ingest}\ndefaults: {{retry: {{max_attempts: 0}}}}\n")
    for handler in HANDLERS:
        seconds = HANG_SECONDS if handler == "test.stubborn" else 60
        (folder / f"{handler}.yaml").write_text(ONE_TASK.format(handler=handler, timeout_seconds=seconds))
    return folder


def make_handlers(folder: Path) -> Path:
    """A folder of handlers from outside."""
    folder.mkdir()
    shutil.copy(misbehaving.__file__, folder)
    return folder


def make_rasters(folder: Path) -> Path:
    """Rasters and what is called one."""
    folder.mkdir()
    good = make_raster(folder / "good.tif", noise(3), photometric="rgb")
    shutil.copy(good, folder / "good.jpg")
    (folder / "empty.tif").write_bytes(b"")
    (folder / "few.tif").write_bytes(b"II*\0")
    (folder / "text.tif").write_text("this is not a raster\n" * 20)
    (folder / "vrt.tif").write_text(VRT)
    (folder / "truncated.tif").write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    _picture(folder / "picture.tif")
    _rotten(folder / "rotten.tif")
    make_raster(folder / "no-crs.tif", terrain(), crs=None)
    make_raster(folder / "float64.tif", terrain(dtype="float64"))
    make_raster(folder / "nothing.tif", np.full((1, 120, 160), -9999, "int16"), nodata=-9999)
    declaring(folder / "huge.tif", 2**31)
    declaring(folder / "vast.tif", 2**31 - 1)
    bomb(folder / "bomb.tif", 12 * 4096)
    os.truncate(folder / "bomb.tif", 33_000)
    return folder


def make_large(path: Path, mib: int) -> Path:
    """A raster that no codec makes smaller."""
    values = np.random.default_rng(5).integers(0, 256, (1, mib * 1024, 1024), dtype="uint8")
    return make_raster(path, values, colors=(ColorInterp.gray,))


def _picture(path: Path) -> None:
    """A PNG that is called a GeoTIFF."""
    with rasterio.open(path, "w", driver="PNG", width=160, height=120, count=3, dtype="uint8") as made:
        made.write(noise(3))


def _rotten(path: Path) -> None:
    """One block in the middle has other bytes than were written."""
    make_raster(path, noise(1, shape=(512, 512)), compress="deflate", tiled=True, blockxsize=128, blockysize=128)
    with rasterio.open(path) as raster:
        offset = int(raster.get_tag_item("BLOCK_OFFSET_2_2", "TIFF", bidx=1))
    content = bytearray(path.read_bytes())
    content[offset : offset + 400] = b"\xff" * 400
    path.write_bytes(content)
