"""How people name objects: `container/path`, an https address, a GDAL path, a file of this machine."""

from __future__ import annotations

from dataclasses import dataclass

from dagmaster.errors import PathRefused


@dataclass(frozen=True, slots=True)
class Reference:
    """An object in the storage."""

    container: str
    path: str


def parse_reference(text: str) -> Reference:
    """The object that a reference names. Errors: PathRefused.

    Only `container/path` is served: an address or a GDAL path would let a submission read what the worker can reach.
    """
    if "://" in text or text.startswith("/"):
        raise PathRefused(
            path=text,
            why="Addresses, GDAL paths and absolute paths are not read by this storage.",
            remedy="Put the file into a container and name it as container/path.",
        )
    container, slash, path = text.partition("/")
    if not slash or not container or not path:
        raise PathRefused(path=text, remedy="Write it as container/path.")
    return Reference(container, path)
