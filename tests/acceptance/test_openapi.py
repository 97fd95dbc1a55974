"""Generated requests against every documented operation of a running service: no 5xx, nothing undocumented."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from acceptance.conftest import Program

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
STREAM = "/stream$"
"""Ends only with its job; tests/api looks at it."""


def test_no_generated_request_gets_a_5xx_or_an_undocumented_answer(program: Program, tmp_path: Path) -> None:
    with program.up() as up:
        program.json("run", "echo_test", "-i", "message=x")
        done = subprocess.run(
            [
                str(Path(sys.executable).with_name("st")), "run", f"{up.url}/openapi.json", "--checks", CHECKS, "--no-color",
                "--max-examples", "8", "--exclude-path-regex", STREAM, "--phases", "coverage,fuzzing", "--seed", "1",
                "--generation-database", "none",
            ],
            cwd=tmp_path, env=os.environ | {"NO_PROXY": "*"}, capture_output=True, text=True, timeout=240, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:]
