"""The import rule holds, and it would notice if it did not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]


def test_every_import_goes_one_way_down() -> None:
    done = _lint(PROJECT)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("db/planted.py", "import dagmaster.engine", "One way down"),
        ("storages/planted.py", "import dagmaster.catalog", "One way down"),
        ("gateway/planted.py", "import dagmaster.db", "The gateway holds no authority"),
        ("engine/planted.py", "import dagmaster.handlers", "The orchestrator carries no handlers and no kernels"),
        ("engine/planted.py", "import rasterio", "The orchestrator carries no GDAL"),
        ("geo/planted.py", "import dagmaster.contract", "geo is a library"),
        ("dag/planted.py", "import dagmaster.db", "dag is pure"),
        ("dag/planted.py", "import psycopg", "The workflow language and the contract do no I/O"),
        ("client/planted.py", "import dagmaster.db", "The client knows the API"),
        ("utils/planted.py", "", "One way down"),
    ],
)
def test_a_planted_violation_is_found(tmp_path: Path, file: str, line: str, contract: str) -> None:
    shutil.copy(PROJECT / "pyproject.toml", tmp_path)
    shutil.copytree(PROJECT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    planted = tmp_path / "src" / "dagmaster" / file
    planted.parent.mkdir(exist_ok=True)
    planted.with_name("__init__.py").touch()
    planted.write_text(line + "\n")
    done = _lint(tmp_path)
    assert done.returncode != 0
    assert contract in done.stdout


def _lint(project: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as main; main()", "--no-cache"]
    environment = {**os.environ, "PYTHONPATH": str(project / "src"), "NO_COLOR": "1"}
    return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
