"""The only reader of the environment: frozen, prefixed, with units. Rooms receive plain arguments."""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from dagmaster.errors import SettingInvalid, SettingMissing


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
    retention_days: int | None = Field(
        default=None,
        ge=1,
        description="Days for which finished jobs are kept; what they published stays. Unset: for ever.",
    )
    log_level: str = Field(default="warning", description="debug, info, warning or error; logs go to stderr.")

    def __init__(self, **values: Any) -> None:
        """Read the environment. Errors: SettingInvalid, naming the first variable that cannot be used."""
        try:
            super().__init__(**values)
        except ValidationError as problem:
            fault = problem.errors(include_url=False)[0]
            variable = "DAGMASTER_" + str(fault["loc"][0]).upper()
            said = fault["msg"].split(",")[0].replace("Input", f"`{fault['input']}`")
            raise SettingInvalid(variable=variable, problem=said) from None

    @property
    def retention(self) -> timedelta | None:
        """For how long finished jobs are kept; None = for ever."""
        return None if self.retention_days is None else timedelta(days=self.retention_days)

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
