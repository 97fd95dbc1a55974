"""The only reader of the environment: frozen, prefixed, with units. Rooms receive plain arguments."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from dagmaster.errors import SettingMissing


class Settings(BaseSettings):
    """Every setting of every process; `DAGMASTER_` plus the name in capitals sets it."""

    model_config = SettingsConfigDict(env_prefix="DAGMASTER_", frozen=True, extra="ignore")

    data: Path | None = Field(default=None, description="Data folder of the local profile.")
    url: str | None = Field(default=None, description="Address of a running dagmaster, for the client commands.")
    database_url: str | None = Field(default=None, description="Postgres of a deployed profile.")
    storage: str | None = Field(
        default=None, description="Storage of a deployed profile, for example file:/srv/storage."
    )
    handlers: str | None = Field(
        default=None, description="Folders of handlers from outside, separated as in PATH; the option is --handlers."
    )
    workflows: str | None = Field(
        default=None, description="Folders of workflows from outside, separated as in PATH; the option is --workflows."
    )
    scratch: Path | None = Field(default=None, description="Scratch folder of a worker.")
    worker_processes: int = Field(
        default_factory=lambda: max(1, min(8, os.cpu_count() or 1)),
        ge=1,
        le=256,
        description="Child processes of a worker.",
    )
    worker_memory_mib: int = Field(default=4096, ge=256, description="Memory of each child process, in MiB.")
    log_level: str = Field(default="warning", description="debug, info, warning or error; logs go to stderr.")

    def handler_folders(self, named: Iterable[Path] | None) -> tuple[Path, ...]:
        """The folders named on the command line, else those of DAGMASTER_HANDLERS."""
        return _folders(named, self.handlers)

    def workflow_folders(self, named: Iterable[Path] | None) -> tuple[Path, ...]:
        """The folders named on the command line, else those of DAGMASTER_WORKFLOWS."""
        return _folders(named, self.workflows)

    def require_database(self) -> str:
        """The database of a deployed profile. Errors: SettingMissing."""
        if not self.database_url:
            raise SettingMissing(variable="DAGMASTER_DATABASE_URL")
        return self.database_url

    def require_storage(self) -> str:
        """The storage of a deployed profile. Errors: SettingMissing."""
        if not self.storage:
            raise SettingMissing(variable="DAGMASTER_STORAGE")
        return self.storage

    def require_scratch(self) -> Path:
        """The scratch folder of a worker. Errors: SettingMissing."""
        if self.scratch is None:
            raise SettingMissing(variable="DAGMASTER_SCRATCH")
        return self.scratch


def _folders(named: Iterable[Path] | None, listed: str | None) -> tuple[Path, ...]:
    texts = [part for part in (listed or "").split(os.pathsep) if part]
    return tuple(folder.absolute() for folder in named or map(Path, texts))
