"""Brings the source to where the job's other nodes can read it."""

from __future__ import annotations

import shutil
from pathlib import Path

from dagmaster.errors import (
    DiskFull,
    FileEmpty,
    FileNotFound,
    FileTooSmall,
    ParamsInvalid,
    PathRefused,
    means_disk_full,
)
from dagmaster.geo.raster.inspect import SIZE_BYTES_MIN
from dagmaster.handlers.base import Context, Output, Params, handler

NAME_BYTES_MAX = 255


class StageParams(Params):
    """A blob below a container, or a file of this machine."""

    blob_name: str | None = None
    container_name: str | None = None
    local_path: str | None = None


class StageOutput(Output):
    """The staged file. `size_mb` counts megabytes of 2^20 bytes."""

    local_path: str
    name: str
    size_bytes: int
    size_mb: float


@handler("raster.blob_to_mount")
def run(params: StageParams, ctx: Context) -> StageOutput:
    """Copy the source into the job's own folder."""
    if (params.local_path is None) == (params.blob_name is None) or (params.blob_name is None) != (
        params.container_name is None
    ):
        raise ParamsInvalid(
            problem="give either local_path, or blob_name and container_name",
            remedy="Submit with local_path=FILE, or with blob_name and container_name.",
        )
    name = name_of(params.local_path or params.blob_name or "")
    target = ctx.job_scratch / "source" / name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)  # what an earlier attempt left, which may be a part or a link
    if params.local_path is not None:
        size = copy_local(Path(params.local_path), target)
    else:
        size = ctx.storage.fetch(params.container_name or "", params.blob_name or "", target)
    check_size(name, size)
    return StageOutput(local_path=str(target), name=name, size_bytes=size, size_mb=round(size / 2**20, 6))


def name_of(path: str) -> str:
    """The last part of a path, which becomes a file of ours. Errors: PathRefused."""
    name = path.rsplit("/", 1)[-1]
    odd = any(ord(letter) < 32 or letter in "\\\x7f" or 0xD800 <= ord(letter) <= 0xDFFF for letter in name)
    if not name or name in (".", "..") or odd or len(name.encode("utf-8", "surrogatepass")) > NAME_BYTES_MAX:
        raise PathRefused(path=path)
    return name


def copy_local(source: Path, target: Path) -> int:
    """Copy a file of this machine; returns its size. Errors: FileNotFound."""
    if not source.is_file():  # a folder, a device and a pipe are none
        why = "It is a folder." if source.is_dir() else None
        raise FileNotFound(path=source, why=why, remedy="Check the path; the file must be where the worker runs.")
    try:
        shutil.copyfile(source, target)
    except OSError as problem:
        if means_disk_full(problem):
            raise DiskFull(where_full="the scratch folder") from problem
        raise FileNotFound(path=source, why="The worker may not read it.") from problem
    return target.stat().st_size


def check_size(name: str, size_bytes: int) -> None:
    """Nothing empty goes on. Errors: FileEmpty, FileTooSmall."""
    if size_bytes == 0:
        raise FileEmpty(path=name)
    if size_bytes < SIZE_BYTES_MIN:
        raise FileTooSmall(path=name, size_bytes=size_bytes)
