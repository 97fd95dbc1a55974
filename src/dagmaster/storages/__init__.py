"""SHELF: where bytes live. Members are loaded when an address names them."""

from __future__ import annotations

from importlib import import_module

from dagmaster.errors import SettingInvalid
from dagmaster.storages.base import Storage

MEMBERS = {"file": "dagmaster.storages.local"}
"""Scheme of an address, and the module that serves it."""


def open_storage(address: str) -> Storage:
    """The storage at an address such as `file:/srv/storage`. Errors: SettingInvalid."""
    scheme, _, place = address.partition(":")
    module = MEMBERS.get(scheme)
    if module is None or not place:
        known = ", ".join(f"{name}:" for name in MEMBERS)
        raise SettingInvalid(
            variable="DAGMASTER_STORAGE",
            problem=f"`{address}` is not the address of a storage",
            remedy=f"Write an address such as file:/srv/storage; it begins with one of: {known}",
        )
    opened: Storage = import_module(module).open_at(place)
    return opened
