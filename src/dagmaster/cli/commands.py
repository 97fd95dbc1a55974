"""The commands."""

from __future__ import annotations

import asyncio
import difflib
import json
import shutil
import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from dagmaster.cli import exits, projects, tryout
from dagmaster.cli.screen import JobScreen, job_table, json_document
from dagmaster.client.client import Client
from dagmaster.contract.api import JobBody, SubmitJob
from dagmaster.dag import library
from dagmaster.dag.check import check
from dagmaster.dag.definition import load
from dagmaster.dag.findings import CODES, render
from dagmaster.dag.inputs import input_schema
from dagmaster.errors import DagmasterError, InputInvalid, Refused, WorkflowInvalid, WorkflowUnknown, by_code
from dagmaster.executors.limits import child_environment
from dagmaster.handlers import outside
from dagmaster.handlers.manifest import bundled_specs
from dagmaster.run import demo as demonstration
from dagmaster.run import doctor as examination
from dagmaster.run.local import local_profile
from dagmaster.run.orchestrator import run_orchestrator
from dagmaster.run.places import data_folder, running_url, service_url
from dagmaster.run.worker import QUEUES, WorkerPlan, run_worker
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
    str, typer.Argument(metavar="WORKFLOW", help="A workflow's id, or the path of a YAML file.")
]


# --- running ---------------------------------------------------------------------------------------


@app.command()
def up(
    data: DataOption = None,
    port: Annotated[
        int | None, typer.Option("--port", min=1, max=65535, help="Port of the API; a free one if absent.")
    ] = None,
    handlers: HandlersOption = None,
    workflows: WorkflowsOption = None,
) -> None:
    """Start dagmaster on this machine and keep it running until Ctrl-C."""
    settings = Settings()

    async def serve() -> None:
        stop = _stop_on_signals()
        folder = data_folder(settings, data)
        found = _outside(settings, handlers).refuse_faults()
        exits.say(f"starting dagmaster in {folder} …")
        async with _profile(settings, folder, port, found, workflows) as running:
            exits.say(f"dagmaster is up at {running.url}")
            exits.say(f"  catalogue: {running.url}/stac")
            exits.say("  try: dagmaster run echo_test -i message=hello      stop: Ctrl-C")
            print(running.url, flush=True)
            stopped = asyncio.ensure_future(stop.wait())
            await asyncio.wait([stopped, running.failed], return_when=asyncio.FIRST_COMPLETED)
            if running.failed.done():
                running.failed.result()
            exits.say("stopping …")
        exits.say("stopped; everything is kept, `dagmaster up` goes on from here")

    _run(serve())


@app.command()
def run(
    workflow: WorkflowArgument,
    inputs: InputOption = None,
    inputs_file: FileOption = None,
    data: DataOption = None,
    handlers: HandlersOption = None,
    workflows: WorkflowsOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Run one job, starting what is needed, and show how it goes."""
    settings = Settings()

    async def work() -> int:
        body = _submission(workflow, inputs, inputs_file, settings.workflow_folders(workflows))
        async with AsyncExitStack() as stack:
            folder = data_folder(settings, data)
            url = running_url(folder)
            if url is None:
                found = _outside(settings, handlers).refuse_faults()
                url = (await stack.enter_async_context(_profile(settings, folder, None, found, workflows))).url
            elif handlers:
                exits.say(f"dagmaster is up at {url} with handlers of its own; --handlers is not used")
            client = await stack.enter_async_context(Client(url))
            job = await _follow(client, (await client.submit(body)).job_id, quiet=quiet or as_json)
            return _print_job(job, as_json=as_json)

    _run(work(), as_json=as_json)


@app.command()
def submit(
    workflow: WorkflowArgument,
    inputs: InputOption = None,
    inputs_file: FileOption = None,
    url: UrlOption = None,
    data: DataOption = None,
    wait: Annotated[bool, typer.Option("--wait", help="Stay until the job has ended.")] = False,
    idempotency_key: Annotated[
        str | None, typer.Option("--idempotency-key", help="The same key again makes no second job.")
    ] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Submit a job to a running dagmaster."""
    settings = Settings()

    async def work() -> int:
        body = _submission(workflow, inputs, inputs_file).model_copy(update={"idempotency_key": idempotency_key})
        async with Client(service_url(settings, url, data)) as client:
            made = await client.submit(body)
            if wait:
                return _print_job(await _follow(client, made.job_id, quiet=quiet or as_json), as_json=as_json)
            if as_json:
                exits.say_json(json_document(await client.job(made.job_id)))
            else:
                print(made.job_id)
                exits.say(f"{'submitted' if made.created else 'submitted before'}; next: dagmaster watch {made.job_id}")
            return exits.COMPLETED

    _run(work(), as_json=as_json)


JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="A job id.")]


@app.command()
def status(job_id: JobArgument, url: UrlOption = None, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Show one job."""
    settings = Settings()

    async def work() -> int:
        async with _reader(settings, url, data) as client:
            job = await client.job(job_id)
            _print_job(job, as_json=as_json)
            return exits.FAILED if job.status in ("FAILED", "CANCELLED") else exits.COMPLETED

    _run(work(), as_json=as_json)


@app.command()
def watch(
    job_id: JobArgument,
    url: UrlOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Follow one job until it has ended; Ctrl-C does it no harm."""
    settings = Settings()

    async def work() -> int:
        async with Client(service_url(settings, url, data)) as client:
            return _print_job(await _follow(client, job_id, quiet=quiet or as_json), as_json=as_json)

    _run(work(), as_json=as_json)


@app.command()
def jobs(
    url: UrlOption = None,
    data: DataOption = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=500)] = 20,
    job_status: Annotated[str | None, typer.Option("--status", help="COMPLETED, FAILED, RUNNING, …")] = None,
    as_json: JsonOption = False,
) -> None:
    """List jobs, newest first."""
    settings = Settings()

    async def work() -> int:
        async with _reader(settings, url, data) as client:
            page = await client.jobs(limit=limit, status=job_status)
        if as_json:
            exits.say_json(page.model_dump(mode="json"))
            return exits.COMPLETED
        for line in page.items:
            why = f"  {line.error.code}" if line.error else ""
            print(f"{line.job_id}  {line.created_at:%Y-%m-%d %H:%M:%S}  {line.status:<9}  {line.workflow_id}{why}")
        if not page.items:
            exits.say("no jobs yet; try: dagmaster run echo_test -i message=hello")
        return exits.COMPLETED

    _run(work(), as_json=as_json)


@app.command()
def cancel(
    job_id: JobArgument,
    url: UrlOption = None,
    data: DataOption = None,
    reason: Annotated[str, typer.Option("--reason")] = "",
) -> None:
    """Stop one job; its running handlers are told to end."""
    settings = Settings()

    async def work() -> int:
        async with Client(service_url(settings, url, data)) as client:
            await client.cancel(job_id, reason)
        exits.say(f"cancel asked for; next: dagmaster status {job_id}")
        return exits.COMPLETED

    _run(work())


@app.command()
def demo(data: DataOption = None) -> None:
    """Ingest a real raster (NASA Blue Marble) from file to catalogue, and say where everything went."""
    settings = Settings()

    async def work() -> int:
        folder = data_folder(settings, data)
        source = await demonstration.sample_raster(folder)
        body = SubmitJob(workflow_id="raster_ingest", inputs=demonstration.inputs(source))
        async with AsyncExitStack() as stack:
            url = running_url(folder)
            if url is None:
                exits.say(f"starting dagmaster in {folder} …")
                url = (await stack.enter_async_context(_profile(settings, folder, None))).url
            client = await stack.enter_async_context(Client(url))
            job = await _follow(client, (await client.submit(body)).job_id, quiet=False)
            _print_job(job, as_json=False)
            if job.status != "COMPLETED":
                return exits.FAILED
            for line in demonstration.summary(job, folder):
                print(line)
            return exits.COMPLETED

    _run(work())


@app.command()
def orchestrator() -> None:
    """Run an orchestrator of its own against DAGMASTER_DATABASE_URL; any number may run side by side."""
    settings = Settings()

    async def serve() -> None:
        exits.say("orchestrator running; stop: Ctrl-C")
        await run_orchestrator(settings.require_database(), settings.require_storage(), _stop_on_signals())

    _run(serve())


@app.command()
def worker(
    processes: Annotated[int | None, typer.Option("--processes", min=1, max=256, help="Child processes.")] = None,
    queues: Annotated[
        list[str] | None, typer.Option("--queue", help="A queue to serve; repeat it. All if absent.")
    ] = None,
    handlers: HandlersOption = None,
) -> None:
    """Run a worker of its own against DAGMASTER_DATABASE_URL; any number may run side by side."""
    settings = Settings()

    async def serve() -> None:
        plan = WorkerPlan(
            settings.require_database(),
            settings.require_storage(),
            settings.require_scratch(),
            processes or settings.worker_processes,
            settings.worker_memory_mib,
            queues or QUEUES,
            outside=_outside(settings, handlers).refuse_faults(),
        )
        exits.say("worker running; stop: Ctrl-C")
        await run_worker(plan, _stop_on_signals())

    _run(serve())


# --- looking ---------------------------------------------------------------------------------------


@workflow_app.command("list")
def workflow_list(workflows: WorkflowsOption = None, as_json: JsonOption = False) -> None:
    """List the workflows: the bundled ones and your own."""

    def work() -> int:
        folders = Settings().workflow_folders(workflows)
        found = [library.read(path) for path in library.available(folders).values()]
        if as_json:
            exits.say_json(
                {
                    "items": [
                        {
                            "workflow_id": d.workflow_id,
                            "name": d.name,
                            "version": d.version,
                            "description": d.description,
                        }
                        for d in found
                    ],
                    "next": None,
                }
            )
            return exits.COMPLETED
        width = max(len(definition.workflow_id) for definition in found)
        for definition in found:
            print(f"{definition.workflow_id:<{width}}  {definition.description or definition.name}")
        return exits.COMPLETED

    _run_plain(work, as_json=as_json)


@workflow_app.command("show")
def workflow_show(workflow: WorkflowArgument, workflows: WorkflowsOption = None, as_json: JsonOption = False) -> None:
    """Show a workflow's inputs and nodes."""

    def work() -> int:
        definition = library.find(workflow, Settings().workflow_folders(workflows))
        schema = input_schema(definition)
        if as_json:
            exits.say_json(
                {
                    "workflow_id": definition.workflow_id,
                    "version": definition.version,
                    "definition": definition.document,
                    "input_schema": schema,
                }
            )
            return exits.COMPLETED
        print(
            f"{definition.workflow_id} (version {definition.version}): {definition.description or definition.name}\n"
            "\ninputs"
        )
        for name, about in schema["properties"].items():
            needed = "required" if name in schema.get("required", []) else f"default {json.dumps(about.get('default'))}"
            print(f"  {name:<18} {about.get('type', 'any')!s:<10} {needed}  {about.get('description', '')}".rstrip())
        print("\nnodes")
        for name, node in definition.document["nodes"].items():
            print(f"  {name:<18} {node.get('handler') or node.get('type', 'task')}")
        return exits.COMPLETED

    _run_plain(work, as_json=as_json)


@workflow_app.command("check")
def workflow_check(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A YAML file, or a workflow's id.")],
    handlers: HandlersOption = None,
    workflows: WorkflowsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check a definition: everything that can be known before a run, with file, line and fix."""

    def work() -> int:
        settings = Settings()
        text, name = _definition_text(file, settings.workflow_folders(workflows))
        specs = {**_outside(settings, handlers).refuse_faults().specs, **bundled_specs()}
        try:
            definition = load(text, name)
            findings = [*definition.warnings, *check(definition, specs)]
        except WorkflowInvalid as error:
            findings = error.facts["findings"]
        wrong = [finding for finding in findings if finding.severity == "error"]
        if as_json:
            exits.say_json({"file": name, "valid": not wrong, "findings": [finding.as_dict() for finding in findings]})
        else:
            for finding in findings:
                exits.say(render(finding) + "\n")
            exits.say(f"{name}: {len(wrong)} error(s), {len(findings) - len(wrong)} warning(s)")
        return exits.FAILED if wrong else exits.COMPLETED

    _run_plain(work, as_json=as_json)


@app.command()
def handlers(handlers: HandlersOption = None, as_json: JsonOption = False) -> None:
    """List the handlers, bundled and your own; exits with 1 when a file of yours cannot be used."""

    def work() -> int:
        found = _outside(Settings(), handlers)
        specs = {**bundled_specs(), **dict(sorted(found.specs.items()))}
        faults = [{"place": fault.place, "reason": fault.reason} for fault in found.faults]
        if as_json:
            items = [spec.model_dump(mode="json") for spec in specs.values()]
            exits.say_json({"items": items, "next": None} | ({"faults": faults} if faults else {}))
        else:
            width = max(len(name) for name in specs)
            for name, spec in specs.items():
                place = f"  ({found.places[name]})" if name in found.places else ""
                print(f"{name:<{width}}  {spec.summary}{place}")
            for fault in found.faults:
                exits.say(exits.paint("31;1", "cannot be used") + f": {fault}")
        return exits.FAILED if faults else exits.COMPLETED

    _run_plain(work, as_json=as_json)


@handler_app.command("run")
def handler_run(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A handler's name; dagmaster handlers lists them.")],
    inputs: InputOption = None,
    inputs_file: FileOption = None,
    handlers: HandlersOption = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the scratch folder, to look into.")] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Run one handler in this process, without a database, a workflow or retries."""

    def work() -> int:
        handler = tryout.find(name, _outside(Settings(), handlers))
        given = tryout.typed(handler, _inputs(inputs or [], inputs_file))
        tryout.check(handler, given)
        folder = Path(tempfile.mkdtemp(prefix="dagmaster-"))
        try:
            tried = tryout.attempt(handler, given, folder, quiet=quiet)
        except KeyboardInterrupt:
            exits.say("interrupted")
            return exits.INTERRUPTED
        finally:
            if not keep:
                shutil.rmtree(folder, ignore_errors=True)
        if as_json:
            exits.say_json(tried.document(folder if keep else None))
        elif tried.outcome.error is None:
            print(json.dumps(tried.outcome.output, indent=2, ensure_ascii=False))
        else:
            exits.say(exits.render_error({"node": None, "where": f"handler `{name}`"} | tried.outcome.error))
        if not as_json:
            kept = f"; its folder: {folder}" if keep else ""
            exits.say(f"{name} {'completed' if tried.outcome.completed else 'failed'} in {tried.seconds:.1f} s{kept}")
        return exits.COMPLETED if tried.outcome.completed else exits.FAILED

    _run_plain(work, as_json=as_json)


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="Where; this folder if absent.")] = Path(),
    name: Annotated[str | None, typer.Option("--name", help="Name of its handler; the folder's if absent.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a small project of your own: one handler, one workflow, one test."""

    def work() -> int:
        made, files = projects.make(folder, name)
        if as_json:
            exits.say_json({"name": made, "files": [str(file) for file in files]})
            return exits.COMPLETED
        for file in files:
            print(file)
        go = "" if folder.absolute() == Path.cwd() else f"cd {folder} && "
        exits.say(f"made the project {made}; next: {go}python -m pytest      then: README.md")
        return exits.COMPLETED

    _run_plain(work, as_json=as_json)


@app.command()
def doctor(data: DataOption = None, handlers: HandlersOption = None, as_json: JsonOption = False) -> None:
    """Look for what is wrong on this machine, and say what to do."""
    settings = Settings()

    async def work() -> int:
        findings = await examination.examine(data_folder(settings, data))
        found = _outside(settings, handlers)
        findings += [
            examination.Finding("handler", False, str(fault), outside.HandlersBroken.remedy) for fault in found.faults
        ]
        if found.specs:
            findings.append(examination.Finding("own handlers", True, ", ".join(sorted(found.specs))))
        if as_json:
            exits.say_json({"items": [finding.__dict__ for finding in findings], "next": None})
        else:
            for finding in findings:
                mark = exits.paint("32", "ok  ") if finding.ok else exits.paint("31;1", "FAIL")
                print(
                    f"{mark} {finding.what}: {finding.fact}"
                    + (f"\n     fix: {finding.remedy}" if finding.remedy else "")
                )
        return exits.COMPLETED if all(finding.ok for finding in findings) else exits.FAILED

    _run(work(), as_json=as_json)


@app.command()
def explain(code: Annotated[str, typer.Argument(metavar="CODE")], as_json: JsonOption = False) -> None:
    """Explain an error code, or a code of the static check."""

    def work() -> int:
        wanted = code.upper()
        found = by_code().get(wanted)
        if found is None and wanted not in CODES:
            near = difflib.get_close_matches(wanted, [*by_code(), *CODES], n=1)
            remedy = f"Did you mean {near[0]}?" if near else "docs/reference/errors.md lists them."
            raise Refused(f"There is no error code `{code}`.", remedy=remedy)
        document = {
            "code": wanted,
            "message": found.__doc__ if found else CODES[wanted],
            "explanation": found.explanation if found else CODES[wanted],
            "remedy": found.remedy if found else "dagmaster workflow check FILE names the line and the fix.",
            "retryable": found.retryable if found else False,
        }
        if as_json:
            exits.say_json(document)
        else:
            print(f"{wanted}\n\n{document['explanation']}\n\nfix: {document['remedy']}")
            print("retry: helps" if document["retryable"] else "retry: does not help")
        return exits.COMPLETED

    _run_plain(work, as_json=as_json)


@app.command()
def version(as_json: JsonOption = False) -> None:
    """Print the version and the date of the build."""
    from dagmaster.api.health import build_date, installed_version

    if as_json:
        exits.say_json({"version": installed_version(), "build_date": build_date()})
    else:
        print(f"dagmaster {installed_version()} ({build_date()})")


# --- helpers ---------------------------------------------------------------------------------------


def _profile(
    settings: Settings,
    folder: Path,
    port: int | None,
    found: outside.Outside | None = None,
    workflows: list[Path] | None = None,
) -> Any:
    return local_profile(
        folder,
        port=port,
        processes=settings.worker_processes,
        memory_mib=settings.worker_memory_mib,
        outside=found,
        workflow_folders=settings.workflow_folders(workflows),
    )


def _outside(settings: Settings, named: list[Path] | None) -> outside.Outside:
    """The handlers from outside that this command was given; the folders are read by another process."""
    return outside.read(settings.handler_folders(named), child_environment({}))


def _reader(settings: Settings, url: str | None, data: Path | None) -> Any:
    """A client for looking; starts the local profile for the moment when nothing is up but the data folder exists."""

    class Reader:
        async def __aenter__(self) -> Client:
            self.stack = AsyncExitStack()
            folder = data_folder(settings, data)
            if url or settings.url or running_url(folder) or not (folder / "postgres").exists():
                address = service_url(settings, url, data)
            else:
                address = (await self.stack.enter_async_context(_profile(settings, folder, None))).url
            return await self.stack.enter_async_context(Client(address))

        async def __aexit__(self, *error: Any) -> None:
            await self.stack.aclose()

    return Reader()


def _submission(
    workflow: str, inputs: list[str] | None, inputs_file: Path | None, folders: tuple[Path, ...] = ()
) -> SubmitJob:
    """The request for a workflow's id, or for a YAML file's text; folders on this machine are read here."""
    given = _inputs(inputs or [], inputs_file)
    own = library.available(folders).get(workflow) != library.bundled().get(workflow)
    if own or workflow.endswith((".yaml", ".yml")) or "/" in workflow:
        text, name = _definition_text(workflow, folders)
        return SubmitJob(definition=text, file_name=name, inputs=_absolute(given))
    return SubmitJob(workflow_id=workflow, inputs=_absolute(given))


def _definition_text(file: str, folders: tuple[Path, ...] = ()) -> tuple[str, str]:
    path = Path(file)
    if not path.is_file() and (known := library.available(folders).get(file)):
        path = known
    try:
        return path.read_text("utf-8"), str(path)
    except (OSError, UnicodeDecodeError) as problem:
        raise WorkflowUnknown(workflow_id=file, why=str(problem)) from problem


def _inputs(pairs: list[str], file: Path | None) -> dict[str, Any]:
    given: dict[str, Any] = {}
    if file is not None:
        try:
            given = json.loads(file.read_text("utf-8"))
        except (OSError, ValueError) as problem:
            raise InputInvalid(name="--inputs", problem=f"{file} cannot be read as JSON: {problem}") from problem
        if not isinstance(given, dict):
            raise InputInvalid(name="--inputs", problem=f"{file} holds no JSON object")
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise InputInvalid(name=pair, problem="an input is written KEY=VALUE")
        given[key] = value
    return given


def _absolute(given: dict[str, Any]) -> dict[str, Any]:
    """A file on this machine is named relative to this folder, but read by another process."""
    path = given.get("local_path")
    return given | {"local_path": str(Path(path).expanduser().absolute())} if isinstance(path, str) and path else given


async def _follow(client: Client, job_id: str, *, quiet: bool) -> JobBody:
    with JobScreen(quiet=quiet) as screen:
        job = None
        async for job in client.watch(job_id):
            screen.show(job)
    assert job is not None, "a watched job is read at least once"
    return job


def _print_job(job: JobBody, *, as_json: bool) -> int:
    if as_json:
        exits.say_json(json_document(job))
    else:
        Console().print(job_table(job))
        print(f"\njob {job.job_id}  {job.status}")
        if job.error:
            exits.say(exits.render_error(job.error.model_dump()))
    return {"FAILED": exits.FAILED, "CANCELLED": exits.FAILED}.get(job.status, exits.COMPLETED)


def _stop_on_signals() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


def _run(work: Coroutine[Any, Any, int | None], *, as_json: bool = False) -> None:
    """Run a command to its exit code; every error leaves as a message or a JSON document, never as a traceback."""
    set_up_logs(Settings().log_level)
    _end(lambda: asyncio.run(_until_terminated(work)), as_json=as_json)


def _run_plain(work: Callable[[], int], *, as_json: bool) -> None:
    _end(work, as_json=as_json)


async def _until_terminated(work: Awaitable[int | None]) -> int | None:
    """SIGTERM ends a command as Ctrl-C does, unless it listens to signals itself."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await work


def _end(work: Callable[[], int | None], *, as_json: bool) -> None:
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


def main() -> None:
    """The console script."""
    app()
