"""What is particular to a folder: links, and addresses."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from dagmaster.errors import DiskFull, PathRefused, SettingInvalid
from dagmaster.storages import open_storage
from dagmaster.storages.local import LocalStorage


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    (tmp_path / "storage" / "cogs").mkdir(parents=True)
    return LocalStorage(tmp_path / "storage")


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "outside" / "secret"
    path.parent.mkdir()
    path.write_bytes(b"secret")
    return path


def refuse(storage: LocalStorage, path: str, source: Path) -> None:
    for ask in (
        lambda: storage.head("cogs", path),
        lambda: storage.locate("cogs", path),
        lambda: storage.fetch("cogs", path, source.parent / "copy"),
        lambda: storage.delete("cogs", path),
        lambda: storage.stage(source, "cogs", path, "t-1"),
        lambda: storage.publish("t-1/cogs/a", "cogs", path),
    ):
        with pytest.raises(PathRefused):
            ask()
    assert source.read_bytes() == b"secret"


def test_link_to_a_file_outside_is_refused(storage: LocalStorage, secret: Path) -> None:
    (storage.root / "cogs" / "link").symlink_to(secret)
    refuse(storage, "link", secret)


def test_link_to_a_folder_outside_is_refused(storage: LocalStorage, secret: Path) -> None:
    (storage.root / "cogs" / "link").symlink_to(secret.parent)
    refuse(storage, "link/secret", secret)
    refuse(storage, "link/new", secret)


def test_link_into_another_container_or_the_staged_ones_is_refused(storage: LocalStorage, secret: Path) -> None:
    (storage.root / "cogs" / "link").symlink_to("..")
    refuse(storage, "link/other/a", secret)
    (storage.root / "cogs" / "staged").symlink_to("../.staged")
    refuse(storage, "staged/t-1", secret)


def test_container_that_is_a_link_is_refused(storage: LocalStorage, secret: Path) -> None:
    (storage.root / "cogs").rmdir()
    (storage.root / "cogs").symlink_to(secret.parent)
    refuse(storage, "secret", secret)


def test_links_in_a_circle_are_refused(storage: LocalStorage, secret: Path) -> None:
    (storage.root / "cogs" / "circle").symlink_to("circle")
    refuse(storage, "circle/a", secret)


def test_links_are_not_listed(storage: LocalStorage, secret: Path) -> None:
    (storage.root / "cogs" / "file").symlink_to(secret)
    (storage.root / "cogs" / "folder").symlink_to(secret.parent)
    assert storage.list("cogs") == []


def test_full_disk_is_told_as_such_and_leaves_nothing(
    storage: LocalStorage, secret: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        (storage.root / ".staged/t-1/cogs").mkdir(parents=True)
        with pytest.raises(DiskFull, match="the storage"):
            storage.stage(secret, "cogs", "a", "t-1")
    assert not [path for path in storage.root.rglob("*") if path.is_file()]


def test_foreign_things_among_the_staged_ones_are_left_alone(storage: LocalStorage) -> None:
    (storage.root / ".staged" / "not a token").mkdir(parents=True)
    assert storage.staged() == []


@pytest.mark.parametrize("address", ["", "file:", "/srv/storage", "s3:bucket", "https://host/x", "File:/x"])
def test_unknown_address_is_refused_with_the_known_ones(address: str) -> None:
    with pytest.raises(SettingInvalid) as refused:
        open_storage(address)
    assert "file:" in refused.value.remedy
