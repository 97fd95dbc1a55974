"""Handlers from outside the package: files in folders, and modules that installed distributions announce.

`python -m dagmaster.handlers.outside DIR…` imports them in a process of its own and prints what they are, a JSON
object per line; the processes that decide and serve read that and import none of them. Children load one by its home.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from dagmaster.contract.handlers import HandlerSpec
from dagmaster.errors import HandlerUnknown, Refused, SettingInvalid
from dagmaster.handlers import BUNDLED
from dagmaster.handlers.base import Handler

GROUP = "dagmaster.handlers"
"""The entry point group in which a distribution announces its modules."""
READ_SECONDS_MAX = 60.0
FILES_MAX = 1000
FILE = "file:"
MODULE = "module:"
"""A home is one of these and a path or a module's name; with the handler's name it is all that a child needs."""


class HandlersBroken(Refused):
    """{count} handler file(s) cannot be used: {first}."""

    code = "HANDLERS_BROKEN"
    remedy = "Correct the file, then: dagmaster handlers --handlers DIR"
    explanation = (
        "A folder given with --handlers, or a module that an installed distribution announces, holds a handler that "
        "cannot be loaded. Nothing was started, because a handler that is silently missing is found out too late."
    )


class HandlerNameTaken(Refused):
    """The name `{name}` belongs to two handlers."""

    code = "HANDLER_NAME_TAKEN"
    remedy = "Give one of the two another name in its @handler(…)."
    explanation = "A handler's name is how workflows call it, so it belongs to one handler; bundled names are taken."


@dataclass(frozen=True, slots=True)
class Fault:
    """A place that could not be read, and why."""

    place: str
    """The file with its line, or the module."""
    reason: str

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Outside:
    """The handlers from outside that a process was given."""

    specs: Mapping[str, HandlerSpec] = field(default_factory=dict)
    homes: Mapping[str, str] = field(default_factory=dict)
    """Where each is loaded from."""
    places: Mapping[str, str] = field(default_factory=dict)
    """Where each is written, for people: file and line."""
    faults: Sequence[Fault] = ()

    def refuse_faults(self) -> Outside:
        """Itself when everything could be read. Errors: HandlersBroken."""
        if self.faults:
            problems = [{"message": str(fault)} for fault in self.faults]
            first = self.faults[0]
            raise HandlersBroken(
                count=len(self.faults), first=first.reason, where=first.place, problems=problems if problems[1:] else []
            )
        return self


# --- finding and reading them, importing none -------------------------------------------------------


def announced() -> list[str]:
    """Homes of the modules that installed distributions announce."""
    return sorted({MODULE + point.value.partition(":")[0].strip() for point in entry_points(group=GROUP)})


def homes_in(folders: Iterable[Path]) -> list[str]:
    """Homes of the files in the folders; names that begin with `_` or `.` are helpers. Errors: SettingInvalid."""
    found: dict[str, None] = {}
    for folder in folders:
        if not folder.is_dir():
            raise SettingInvalid(
                variable="--handlers",
                problem=f"`{folder}` is not a folder",
                remedy="Name a folder with one handler per file, or make one: dagmaster init DIR",
            )
        for file in sorted(folder.resolve().glob("*.py")):
            if not file.name.startswith(("_", ".")):
                found[FILE + str(file)] = None
    if len(found) > FILES_MAX:
        raise SettingInvalid(variable="--handlers", problem=f"{len(found)} files are more than {FILES_MAX}")
    return list(found)


def read(folders: Iterable[Path], environment: Mapping[str, str]) -> Outside:
    """What is in the folders and what is installed; a fault in one file leaves the others be.

    Errors: SettingInvalid for a folder that is none, HandlerNameTaken.
    """
    homes = [*homes_in(folders), *announced()]
    specs: dict[str, HandlerSpec] = {}
    found_homes: dict[str, str] = {}
    places: dict[str, str] = {}
    faults: list[Fault] = []
    for said in _lines(homes, environment):
        if "reason" in said:
            faults.append(Fault(said["place"], said["reason"]))
            continue
        # It runs in a child whatever it asks for: this process stays free of code that it does not know.
        spec = HandlerSpec(**said["spec"] | {"isolation": "process"})
        first = f"dagmaster itself ({BUNDLED[spec.name]})" if spec.name in BUNDLED else places.get(spec.name)
        if first is not None:
            raise HandlerNameTaken(name=spec.name, where=said["place"], why=f"It is also the name of one in {first}.")
        specs[spec.name], found_homes[spec.name], places[spec.name] = spec, said["home"], said["place"]
    return Outside(specs, found_homes, places, tuple(faults))


def _lines(homes: list[str], environment: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """What the reading process says of each home; when one of them kills it, the rest is read by another."""
    while homes:
        output, end = _ask(homes, environment)
        lines = [json.loads(line) for line in output.splitlines() if line.endswith("}")]
        yield from (line for line in lines if "trying" not in line)
        if end is None:
            return
        tried = [line["trying"] for line in lines if "trying" in line]
        if not tried:
            raise HandlersBroken(count=len(homes), first="the process that reads them did not start", why=end)
        yield {"place": _path(tried[-1]), "reason": f"importing it ended the process: {end}"}
        homes = homes[homes.index(tried[-1]) + 1 :]


def _ask(homes: list[str], environment: Mapping[str, str]) -> tuple[str, str | None]:
    """The output of a reading process, and how it ended unless well."""
    command = [sys.executable, "-m", "dagmaster.handlers.outside", *homes]
    process = subprocess.Popen(
        command,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        output, talk = process.communicate(timeout=READ_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        return process.communicate()[0], f"it took more than {READ_SECONDS_MAX:.0f} s"
    if process.returncode < 0:
        return output, f"signal {signal.Signals(-process.returncode).name}"
    last = talk.strip().rsplit("\n", 1)[-1]
    return output, (f"exit status {process.returncode} {last}".strip() if process.returncode else None)


# --- loading them: in children, and in the process that reads ---------------------------------------


def load(name: str, home: str) -> Handler[Any, Any]:
    """The handler of this name at its home. Errors: HandlerUnknown, HandlersBroken."""
    try:
        module = _import(home)
    except Exception as problem:
        fault = _fault(home, problem)
        raise HandlersBroken(count=1, first=fault.reason, where=fault.place) from problem
    for found in handlers_of(module):
        if found.name == name:
            return found
    raise HandlerUnknown(handler=name, where=_path(home), why="The file was changed after its handlers were read.")


def handlers_of(module: ModuleType) -> list[Handler[Any, Any]]:
    """The handlers that a module defines; those that it merely imports from another distribution are not its own."""
    own = module.__name__.partition(".")[0]
    found: dict[int, Handler[Any, Any]] = {}
    for value in vars(module).values():
        if isinstance(value, Handler) and value.function.__module__.partition(".")[0] == own:
            found[id(value)] = value
    return list(found.values())


def _import(home: str) -> ModuleType:
    if home.startswith(MODULE):
        return import_module(home.removeprefix(MODULE))
    path = Path(home.removeprefix(FILE))
    name = f"dagmaster_outside_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # for its helpers; last, so that no file hides a library
    spec = spec_from_file_location(name, path)
    assert spec is not None, f"{path} ends in .py"
    assert spec.loader is not None, f"{path} ends in .py"
    module = module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _fault(home: str, problem: BaseException) -> Fault:
    """The problem at the line of the home's own file that led to it."""
    path = _path(home)
    lines = [frame.lineno for frame in traceback.extract_tb(problem.__traceback__) if frame.filename == path]
    if isinstance(problem, SyntaxError) and problem.filename == path:
        lines = [problem.lineno]
    place = f"{path}:{lines[-1]}" if lines and lines[-1] else path
    text = problem.msg if isinstance(problem, SyntaxError) else str(problem)
    return Fault(place, f"{type(problem).__name__}: {text}".removesuffix(": "))


def _path(home: str) -> str:
    return home.removeprefix(FILE).removeprefix(MODULE)


def _say_all(homes: Iterable[str], say: Any) -> None:
    for home in homes:
        say({"trying": home})
        try:
            for found in handlers_of(_import(home)):
                code = found.function.__code__
                place = f"{code.co_filename}:{code.co_firstlineno}"
                say({"spec": found.spec().model_dump(mode="json"), "home": home, "place": place})
        except (Exception, SystemExit) as problem:  # noqa: BLE001  # a file from outside may raise anything
            fault = _fault(home, problem)
            say({"place": fault.place, "reason": fault.reason})


def main() -> None:
    """Say what is at the homes, or in the folders, that were named."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a module prints while it is imported is talk

    def say(message: dict[str, Any]) -> None:
        out.write(json.dumps(message) + "\n")
        out.flush()

    for word in sys.argv[1:]:
        _say_all([word] if word.startswith((FILE, MODULE)) else homes_in([Path(word)]), say)


if __name__ == "__main__":
    main()
