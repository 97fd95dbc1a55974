"""Runs the peers: an environment of their own, a fresh database for each, one process for each workload."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

HERE = Path(__file__).parent
ENVIRONMENT = HERE.parent / ".venv-bench"
PEERS = ("dbos", "procrastinate")
SECONDS_MAX = 400


def prepare() -> str | None:
    """Install the peers unless they are there; returns why they cannot be had, if so."""
    python = ENVIRONMENT / "bin" / "python"
    stamp = ENVIRONMENT / "installed.txt"
    wanted = (HERE / "requirements.txt").read_text("utf-8")
    if stamp.is_file() and stamp.read_text("utf-8") == wanted:
        return None
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(ENVIRONMENT)], check=True)
    done = subprocess.run(
        [
            str(python),
            "-m",
            "pip",
            "install",
            "-q",
            "--disable-pip-version-check",
            "-r",
            str(HERE / "requirements.txt"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        return done.stderr.strip().splitlines()[-1]
    stamp.write_text(wanted, "utf-8")
    return None


def measure(peer: str, workload: str, server: str) -> float | None:
    """One figure of one peer, in a database made for it; None when it did not end."""
    name = f"bench_{peer}"
    with psycopg.connect(server, dbname="postgres", autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    program = HERE / "peers" / f"{peer}_peer.py"
    try:
        done = subprocess.run(
            [str(ENVIRONMENT / "bin" / "python"), str(program), address(server, name, peer), workload],
            capture_output=True,
            text=True,
            check=True,
            timeout=SECONDS_MAX,
        )
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as problem:
        said = problem.stderr if isinstance(problem.stderr, str) else ""
        sys.stderr.write(f"{peer} {workload}: {type(problem).__name__} {said[-400:]}\n")
        return None
    return float(json.loads(done.stdout.strip().splitlines()[-1])["value"])


def address(server: str, database: str, peer: str) -> str:
    """Where a database of the server is, as the peer wants to be told."""
    known = conninfo_to_dict(server) | {"dbname": database}
    scheme = "postgresql+psycopg" if peer == "dbos" else "postgresql"
    user = quote(str(known.get("user") or ""))
    more = "&".join(f"{key}={quote(str(known[key]), safe='')}" for key in ("host", "port") if known.get(key))
    return f"{scheme}://{user}@/{database}?{more}"
