"""What the commands share: options, the program itself, and how a command runs and ends."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from dagmaster.cli import completing, exits
from dagmaster.cli.screen import JobScreen, job_table, json_document
from dagmaster.client.client import Client
from dagmaster.contract.api import JobBody, SubmitJob
from dagmaster.dag import library
from dagmaster.errors import DagmasterError, InputInvalid, WorkflowUnknown
from dagmaster.executors.limits import child_environment
from dagmaster.handlers import outside
from dagmaster.run.places import data_folder, running_url, service_url
from dagmaster.settings import Settings
from dagmaster.telemetry import set_up_logs

app = typer.Typer(
    name="dagmaster",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Orchestration of geospatial data work.\n\nBegin: `dagmaster up`, or `dagmaster run echo_test -i message=hi`.",
)
workflow_app = typer.Typer(no_args_is_help=True, help="Look at workflows and check definitions.")
app.add_typer(workflow_app, name="workflow")
handler_app = typer.Typer(no_args_is_help=True, help="Try handlers out.")
app.add_typer(handler_app, name="handler")

DataOption = Annotated[Path | None, typer.Option("--data", help="Data folder; `.dagmaster` in this folder if absent.")]
UrlOption = Annotated[str | None, typer.Option("--url", help="Address of a running dagmaster.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print exactly one JSON document to stdout.")]
QuietOption = Annotated[bool, typer.Option("--quiet", help="No progress.")]
InputOption = Annotated[
    list[str] | None, typer.Option("--input", "-i", metavar="KEY=VALUE", help="One input; repeat it.")
]
FileOption = Annotated[Path | None, typer.Option("--inputs", metavar="FILE.json", help="Inputs as a JSON object.")]
HandlersOption = Annotated[
    list[Path] | None, typer.Option("--handlers", metavar="DIR", help="A folder of handlers of your own; repeat it.")
]
WorkflowsOption = Annotated[
    list[Path] | None, typer.Option("--workflows", metavar="DIR", help="A folder of workflows of your own; repeat it.")
]
WorkflowArgument = Annotated[
    str,
    typer.Argument(
        metavar="WORKFLOW",
        help="A workflow's id, or the path of a YAML file.",
        autocompletion=completing.workflows,
    ),
]
JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="A job id.", autocompletion=completing.jobs)]
INPUTS_FILE_FIX = 'Let the file hold one JSON object, for example {"message": "hello"}.'


def profile(
    settings: Settings,
    folder: Path,
    port: int | None,
    found: outside.Outside | None = None,
    workflows: list[Path] | None = None,
) -> Any:
    """The local profile around a data folder, with the handlers found, else those of DAGMASTER_HANDLERS."""
    from dagmaster.run.local import local_profile  # most commands only talk to one: they start in half the time

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


def reader(settings: Settings, url: str | None, data: Path | None) -> Any:
    """A client for looking; starts the local profile for the moment when nothing is up but the data folder exists."""

    class Reader:
        async def __aenter__(self) -> Client:
            self.stack = AsyncExitStack()
            folder = data_folder(settings, data)
            if url or settings.url or running_url(folder) or not (folder / "postgres").exists():
                address = service_url(settings, url, data)
            else:
                address = (await self.stack.enter_async_context(profile(settings, folder, None))).url
            return await self.stack.enter_async_context(Client(address))

        async def __aexit__(self, *error: Any) -> None:
            await self.stack.aclose()

    return Reader()


def submission(
    workflow: str, inputs: list[str] | None, inputs_file: Path | None, folders: tuple[Path, ...] = ()
) -> SubmitJob:
    """The request for a workflow's id, or for a YAML file's text; folders on this machine are read here."""
    given = given_inputs(inputs or [], inputs_file)
    own = library.available(folders).get(workflow) != library.bundled().get(workflow)
    if own or workflow.endswith((".yaml", ".yml")) or "/" in workflow:
        text, name = definition_text(workflow, folders)
        return SubmitJob(definition=text, file_name=name, inputs=absolute(given))
    return SubmitJob(workflow_id=workflow, inputs=absolute(given))


def definition_text(file: str, folders: tuple[Path, ...] = ()) -> tuple[str, str]:
    """The text of a definition and its file. Errors: WorkflowUnknown; WorkflowInvalid for what is no such text."""
    path = Path(file)
    if not path.is_file():
        path = library.place(file, folders)
    try:
        return library.text(path), str(path)
    except OSError as problem:
        raise WorkflowUnknown(workflow_id=file, why=problem.strerror, remedy=f"Make {file} readable.") from problem


def given_inputs(pairs: list[str], file: Path | None) -> dict[str, Any]:
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


async def follow(client: Client, job_id: str, *, quiet: bool) -> JobBody:
    with JobScreen(quiet=quiet) as screen:
        job = None
        async for job in client.watch(job_id):
            screen.show(job)
    assert job is not None, "a watched job is read at least once"
    return job


def print_job(job: JobBody, *, as_json: bool) -> int:
    if as_json:
        exits.say_json(json_document(job))
    else:
        Console().print(job_table(job))
        print(f"\njob {job.job_id}  {job.status}")
        if job.error:
            error = job.error.model_dump()
            exits.say(exits.render_error(error | {"remedy": error["remedy"].replace("JOB", job.job_id)}))
    return {"FAILED": exits.FAILED, "CANCELLED": exits.FAILED}.get(job.status, exits.COMPLETED)


def stop_on_signals() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


def run_async(work: Coroutine[Any, Any, int | None], *, as_json: bool = False) -> None:
    """Run a command to its exit code; every error leaves as a message or a JSON document, never as a traceback."""
    set_up_logs(Settings().log_level)
    end(lambda: asyncio.run(_until_terminated(work)), as_json=as_json)


def run_plain(work: Callable[[], int], *, as_json: bool) -> None:
    end(work, as_json=as_json)


async def _until_terminated(work: Awaitable[int | None]) -> int | None:
    """SIGTERM ends a command as Ctrl-C does, unless it listens to signals itself."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await work


def end(work: Callable[[], int | None], *, as_json: bool) -> None:
    """Do the work and leave with its exit code; an error is said as a message, or as a JSON document."""
    try:
        code = work() or exits.COMPLETED
    except DagmasterError as error:
        if as_json:
            status = "REFUSED" if exits.exit_code(error) == exits.REFUSED else "ERROR"
            exits.say_json({"status": status, "error": exits.error_document(error)})
        else:
            exits.say(exits.render_error(exits.error_document(error)))
        code = exits.exit_code(error)
    except (KeyboardInterrupt, asyncio.CancelledError):
        exits.say("interrupted; the work goes on when dagmaster is up again: dagmaster up")
        code = exits.INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        code = exits.COMPLETED
    raise SystemExit(code)
