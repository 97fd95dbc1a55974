"""What a child process may use, and the environment it is born with. Applied between fork and exec."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass

PR_SET_PDEATHSIG = 1
PR_SET_NO_NEW_PRIVS = 38
MIB = 1024 * 1024

PASSED_ON = ("PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "PYTHONPATH", "VIRTUAL_ENV", "SSL_CERT_FILE")
"""The only variables of the parent's environment that a child sees; no credential is among them."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one child process."""

    memory_mib: int = 4096
    cpu_seconds: int = 24 * 3600
    file_mib: int = 200 * 1024
    files_open: int = 512


def child_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """An environment without credentials."""
    kept = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    return kept | {"PYTHONUNBUFFERED": "1", "MALLOC_ARENA_MAX": "2", "OMP_NUM_THREADS": "2"} | dict(extra)


def before_exec(limits: Limits) -> Callable[[], None]:
    """What the forked child does to itself: die with its parent, gain no privileges, stay within its limits."""
    libc = ctypes.CDLL(None, use_errno=True)
    parent = os.getpid()

    def apply() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)
        for kind, value in (
            (resource.RLIMIT_DATA, limits.memory_mib * MIB),
            (resource.RLIMIT_CPU, limits.cpu_seconds),
            (resource.RLIMIT_FSIZE, limits.file_mib * MIB),
            (resource.RLIMIT_NOFILE, limits.files_open),
            (resource.RLIMIT_CORE, 0),
        ):
            _, hard = resource.getrlimit(kind)
            bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(kind, (bound, bound))

    return apply


def python() -> str:
    """The interpreter that children run on: this one."""
    return sys.executable
