"""What commands share once they run: settings, the profile, a client, how a job is submitted, followed, shown."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from dagmaster.cli import exits
from dagmaster.cli.refusals import UsageInvalid
from dagmaster.cli.screen import JobScreen, job_rows, json_document, json_progress
from dagmaster.cli.talk import say, show_table, tell
from dagmaster.client.client import Client
from dagmaster.contract.api import ChildLine, JobBody, SubmitJob
from dagmaster.dag import library
from dagmaster.dag.inputs import input_schema
from dagmaster.errors import InputInvalid, WorkflowUnknown
from dagmaster.executors.limits import child_environment
from dagmaster.handlers import outside
from dagmaster.run.places import data_folder, running_url, service_url
from dagmaster.settings import Settings
from dagmaster.telemetry import set_up_logs

INPUTS_FILE_FIX = 'Let the file hold one JSON object, for example {"message": "hello"}.'
FAILURES_SHOWN = 3
JOB_COLUMNS = ("node", "status", "time", "attempt", "note")


def read_settings() -> Settings:
    """The settings, with logs set up as they say. Errors: SettingInvalid."""
    settings = Settings()
    set_up_logs(settings.log_level)
    return settings


def profile(
    settings: Settings,
    folder: Path,
    port: int | None,
    found: outside.Outside | None = None,
    workflows: list[Path] | None = None,
) -> Any:
    """The local profile around a data folder, with the handlers found, else those of DAGMASTER_HANDLERS."""
    from dagmaster.run.local import local_profile

    return local_profile(
        folder,
        port=port,
        processes=settings.worker_processes,
        memory_mib=settings.worker_memory_mib,
        outside=found or own_handlers(settings, None),
        workflow_folders=settings.workflow_folders(workflows),
        keep=settings.retention,
    )


def own_handlers(settings: Settings, named: list[Path] | None) -> outside.Outside:
    """The handlers from outside that this command was given; the folders are read by another process."""
    return outside.read(settings.handler_folders(named), child_environment({}))


def service(url: str | None, data: Path | None) -> AbstractAsyncContextManager[Client]:
    """A client of the dagmaster that is up. Errors: ServiceUnreachable."""
    return Client(service_url(read_settings(), url, data))


@asynccontextmanager
async def reader(url: str | None, data: Path | None) -> AsyncIterator[Client]:
    """A client for looking; starts the local profile for the moment when nothing is up but the data folder exists."""
    settings = read_settings()
    folder = data_folder(settings, data)
    async with AsyncExitStack() as stack:
        if url or settings.url or running_url(folder) or not (folder / "postgres").exists():
            address = service_url(settings, url, data)
        else:
            address = (await stack.enter_async_context(profile(settings, folder, None))).url
        yield await stack.enter_async_context(Client(address))


@asynccontextmanager
async def started(
    data: Path | None, handlers: list[Path] | None = None, workflows: list[Path] | None = None, *, talk: bool = False
) -> AsyncIterator[Client]:
    """A client of the dagmaster that holds the data folder; when none does, one is started for the moment."""
    settings = read_settings()
    folder = data_folder(settings, data)
    url = running_url(folder)
    async with AsyncExitStack() as stack:
        if url is None:
            found = own_handlers(settings, handlers).refuse_faults()
            if talk:
                say(f"starting dagmaster in {folder} …")
            url = (await stack.enter_async_context(profile(settings, folder, None, found, workflows))).url
        elif handlers:
            say(f"dagmaster is up at {url} with handlers of its own; --handlers is not used")
        yield await stack.enter_async_context(Client(url))


def submission(
    workflow: str, inputs: list[str] | None, inputs_file: Path | None, folders: tuple[Path, ...] = (), **more: Any
) -> SubmitJob:
    """The request for a workflow's id, or for a YAML file's text; folders on this machine are read here."""
    given = absolute(given_inputs(inputs or [], inputs_file))
    own = library.available(folders).get(workflow) != library.bundled().get(workflow)
    if own or workflow.endswith((".yaml", ".yml")) or "/" in workflow:
        text, name = definition_text(workflow, folders)
        wanted: dict[str, Any] = {"definition": text, "file_name": name}
    else:
        wanted = {"workflow_id": workflow}
    try:
        return SubmitJob(**wanted, inputs=given, **more)
    except ValidationError as problem:
        fault = problem.errors(include_url=False)[0]
        raise UsageInvalid(problem=f"{fault['loc'][0]}: {fault['msg']}.", remedy="Shorten it.") from None


def definition_text(file: str, folders: tuple[Path, ...] = ()) -> tuple[str, str]:
    """The text of a definition and its file. Errors: WorkflowUnknown; WorkflowInvalid for what is no such text."""
    path = Path(file)
    if not path.is_file():
        path = library.place(file, folders)
    try:
        return library.text(path), str(path)
    except OSError as problem:
        raise WorkflowUnknown(workflow_id=file, why=problem.strerror, remedy=f"Make {file} readable.") from problem


def input_properties(workflow: str, folders: list[Path] | None) -> dict[str, Any]:
    """The inputs of a workflow, by name, each with its JSON Schema."""
    definition = library.find(workflow, Settings().workflow_folders(folders))
    return dict(input_schema(definition)["properties"])


def given_inputs(pairs: list[str], file: Path | None) -> dict[str, Any]:
    """The inputs of a command line: those of the file, then each KEY=VALUE. Errors: InputInvalid."""
    given: dict[str, Any] = {}
    if file is not None:
        try:
            given = json.loads(file.read_text("utf-8"))
        except (OSError, ValueError) as problem:
            said = f"{file} cannot be read as JSON: {problem}"
            raise InputInvalid(name="--inputs", problem=said, remedy=INPUTS_FILE_FIX) from problem
        if not isinstance(given, dict):
            raise InputInvalid(name="--inputs", problem=f"{file} holds no JSON object", remedy=INPUTS_FILE_FIX)
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            fix = f"Write it as -i {key or 'KEY'}=VALUE"
            raise InputInvalid(name=pair, problem="an input is written KEY=VALUE", remedy=fix)
        given[key] = value
    return given


def absolute(given: dict[str, Any]) -> dict[str, Any]:
    """A file on this machine is named relative to this folder, but read by another process."""
    path = given.get("local_path")
    return given | {"local_path": str(Path(path).expanduser().absolute())} if isinstance(path, str) and path else given


async def follow(client: Client, job_id: str, *, quiet: bool, as_lines: bool) -> JobBody:
    """Show a job as it moves, on stderr or as lines of JSON, until it has ended."""
    job, said = None, None
    with JobScreen(quiet=quiet) as screen:
        async for job in client.watch(job_id):
            screen.show(job, await _some_failures(client, job) if screen.is_live else ())
            if as_lines and said != (said := json_progress(job)):
                tell(said)
    assert job is not None, "a watched job is read at least once"
    return job


async def _some_failures(client: Client, job: JobBody) -> list[ChildLine]:
    """A few failed children of what runs, so that somebody who watches sees why."""
    for name, node in job.nodes.items():
        if node.status in ("RUNNING", "WAITING") and (node.children or {}).get("FAILED"):
            return (await client.nodes(job.job_id, name, "FAILED", limit=FAILURES_SHOWN)).children
    return []


async def follow_and_print(client: Client, job_id: str, *, quiet: bool, as_json: bool, as_lines: bool) -> int:
    """Follow a job and print how it ended."""
    job = await follow(client, job_id, quiet=quiet or as_json or as_lines, as_lines=as_lines)
    return print_job(job, as_json=as_json, as_lines=as_lines)


def print_job(job: JobBody, *, as_json: bool, as_lines: bool = False) -> int:
    """One job, and the exit code that it stands for."""
    if as_lines:
        tell({"event": "end", "job": json_document(job)})
    elif as_json:
        tell(json_document(job))
    else:
        show_table(JOB_COLUMNS, job_rows(job))
        print(f"\njob {job.job_id}  {job.status}")
        if job.error:
            error = job.error.model_dump()
            say(exits.render_error(error | {"remedy": error["remedy"].replace("JOB", job.job_id)}))
    return {"FAILED": exits.FAILED, "CANCELLED": exits.FAILED}.get(job.status, exits.COMPLETED)
