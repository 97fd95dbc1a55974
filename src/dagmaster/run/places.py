"""Where a command finds its dagmaster: a named address, the one that holds the data folder, or none."""

from __future__ import annotations

from pathlib import Path

from dagmaster.db.lockfile import DataFolderLock
from dagmaster.db.places import default_data_folder
from dagmaster.errors import ServiceUnreachable
from dagmaster.settings import Settings


def data_folder(settings: Settings, named: Path | None) -> Path:
    """The data folder of this command."""
    return default_data_folder(named or settings.data).absolute()


def running_url(data: Path) -> str | None:
    """The address of the dagmaster that holds the folder, if one is up."""
    holder = DataFolderLock.read(data)
    return holder.url if holder is not None else None


def service_url(settings: Settings, named: str | None, data: Path | None) -> str:
    """The address to talk to. Errors: ServiceUnreachable when nothing is up."""
    if found := named or settings.url or running_url(data_folder(settings, data)):
        return found
    raise ServiceUnreachable(url=f"the data folder {data_folder(settings, data)}", why="No dagmaster holds it.")
