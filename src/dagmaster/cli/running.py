"""Commands that start something: the profile, jobs, processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from dagmaster.cli import exits
from dagmaster.cli.program import (
    PROCESSES,
    RUN,
    CorrelationOption,
    DataOption,
    FileOption,
    HandlersOption,
    InputOption,
    JobArgument,
    JsonOption,
    LinesOption,
    LiveJobArgument,
    PriorityOption,
    QuietOption,
    UrlOption,
    WorkflowArgument,
    WorkflowsOption,
    command,
)
from dagmaster.cli.talk import say, tell

if TYPE_CHECKING:
    from dagmaster.contract.api import JobAccepted


@command("up", "dagmaster up", "dagmaster up --data /srv/dagmaster --port 8000", panel=RUN)
async def up(
    data: DataOption = None,
    port: Annotated[
        int | None, typer.Option("--port", min=1, max=65535, help="Port of the API; a free one if absent.")
    ] = None,
    handlers: HandlersOption = None,
    workflows: WorkflowsOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Start dagmaster on this machine and keep it running until Ctrl-C."""
    import asyncio
    import os

    from dagmaster.cli.loop import stop_on_signals
    from dagmaster.cli.shared import own_handlers, profile, read_settings
    from dagmaster.run.places import data_folder

    talk = (lambda text: None) if quiet else say
    settings = read_settings()
    stop = stop_on_signals()
    folder = data_folder(settings, data)
    found = own_handlers(settings, handlers).refuse_faults()
    talk(f"starting dagmaster in {folder} …")
    async with profile(settings, folder, port, found, workflows) as running:
        talk(f"dagmaster is up at {running.url}")
        talk(f"  catalogue: {running.url}/stac")
        talk("  try: dagmaster run echo_test -i message=hello      stop: Ctrl-C")
        if as_json:
            tell({"url": running.url, "catalogue": f"{running.url}/stac", "data": str(folder), "pid": os.getpid()})
        else:
            print(running.url, flush=True)
        stopped = asyncio.ensure_future(stop.wait())
        await asyncio.wait([stopped, running.failed], return_when=asyncio.FIRST_COMPLETED)
        if running.failed.done():
            running.failed.result()
        talk("stopping …")
    talk("stopped; everything is kept, `dagmaster up` goes on from here")


@command("demo", "dagmaster demo", panel=RUN)
async def demo(
    data: DataOption = None, as_json: JsonOption = False, as_lines: LinesOption = False, quiet: QuietOption = False
) -> int:
    """Ingest a real raster (NASA Blue Marble) from file to catalogue, and say where everything went."""
    from dagmaster.cli.shared import follow, print_job, read_settings, started
    from dagmaster.contract.api import SubmitJob
    from dagmaster.run import demo as demonstration
    from dagmaster.run.places import data_folder

    folder = data_folder(read_settings(), data)
    source = await demonstration.sample_raster(folder)
    body = SubmitJob(workflow_id="raster_ingest", inputs=demonstration.inputs(source))
    plain = not (as_json or as_lines)
    async with started(data, talk=plain and not quiet) as client:
        made = await client.submit(body)
        job = await follow(client, made.job_id, quiet=quiet or not plain, as_lines=as_lines)
        code = print_job(job, as_json=as_json, as_lines=as_lines)
        if plain and job.status == "COMPLETED":
            for line in demonstration.summary(job, folder):
                print(line)
        return code


@command(
    "run",
    "dagmaster run echo_test -i message=hello",
    "dagmaster run raster_ingest -i local_path=elevation.tif -i collection_id=elevation",
    "dagmaster run greetings.yaml --inputs inputs.json --json",
    panel=RUN,
)
async def run(
    workflow: WorkflowArgument,
    inputs: InputOption = None,
    inputs_file: FileOption = None,
    data: DataOption = None,
    handlers: HandlersOption = None,
    workflows: WorkflowsOption = None,
    correlation_id: CorrelationOption = None,
    priority: PriorityOption = 0,
    as_json: JsonOption = False,
    as_lines: LinesOption = False,
    quiet: QuietOption = False,
) -> int:
    """Run one job, starting what is needed, and show how it goes."""
    from dagmaster.cli.shared import follow_and_print, read_settings, started, submission

    folders = read_settings().workflow_folders(workflows)
    body = submission(workflow, inputs, inputs_file, folders, correlation_id=correlation_id, priority=priority)
    async with started(data, handlers, workflows) as client:
        made = await client.submit(body)
        return await follow_and_print(client, made.job_id, quiet=quiet, as_json=as_json, as_lines=as_lines)


@command(
    "submit",
    "dagmaster submit echo_test -i message=hello",
    "dagmaster submit raster_ingest --inputs inputs.json --idempotency-key order-17 --wait",
    panel=RUN,
)
async def submit(
    workflow: WorkflowArgument,
    inputs: InputOption = None,
    inputs_file: FileOption = None,
    url: UrlOption = None,
    data: DataOption = None,
    wait: Annotated[bool, typer.Option("--wait", help="Stay until the job has ended.")] = False,
    idempotency_key: Annotated[
        str | None, typer.Option("--idempotency-key", metavar="KEY", help="The same key again makes no second job.")
    ] = None,
    correlation_id: CorrelationOption = None,
    priority: PriorityOption = 0,
    queue: Annotated[
        bool, typer.Option("--queue", help="Straight into the job queue of DAGMASTER_DATABASE_URL, without the API.")
    ] = False,
    as_json: JsonOption = False,
    as_lines: LinesOption = False,
    quiet: QuietOption = False,
) -> int:
    """Submit a job to a running dagmaster, by HTTP or straight through the job queue."""
    from dagmaster.cli.screen import json_document
    from dagmaster.cli.shared import follow_and_print, read_settings, service, submission
    from dagmaster.run.enqueue import enqueue

    body = submission(
        workflow,
        inputs,
        inputs_file,
        idempotency_key=idempotency_key,
        correlation_id=correlation_id,
        priority=priority,
    )
    if queue:
        job_id = await enqueue(read_settings().require_database(), body)
        if as_json or as_lines:
            tell({"job_id": job_id})
        else:
            print(job_id)
        return exits.COMPLETED
    async with service(url, data) as client:
        made = await client.submit(body)
        if wait:
            return await follow_and_print(client, made.job_id, quiet=quiet, as_json=as_json, as_lines=as_lines)
        if as_json or as_lines:
            tell(json_document(await client.job(made.job_id)))
        else:
            _print_made(made, "submitted" if made.created else "submitted before", quiet=quiet)
        return exits.COMPLETED


@command("watch", "dagmaster watch JOB", "dagmaster watch JOB --jsonl", panel=RUN)
async def watch(
    job_id: JobArgument,
    url: UrlOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
    as_lines: LinesOption = False,
    quiet: QuietOption = False,
) -> int:
    """Follow one job until it has ended; Ctrl-C does it no harm."""
    from dagmaster.cli.shared import follow_and_print, service

    async with service(url, data) as client:
        return await follow_and_print(client, job_id, quiet=quiet, as_json=as_json, as_lines=as_lines)


@command("cancel", "dagmaster cancel JOB", 'dagmaster cancel JOB --reason "wrong file"', panel=RUN)
async def cancel(
    job_id: LiveJobArgument,
    url: UrlOption = None,
    data: DataOption = None,
    reason: Annotated[str, typer.Option("--reason", help="Why; it stands in the job's history.")] = "",
    as_json: JsonOption = False,
) -> int:
    """Stop one job; its running handlers are told to end."""
    from dagmaster.cli.shared import service

    async with service(url, data) as client:
        done = await client.cancel(job_id, reason)
    if as_json:
        tell(done.model_dump(mode="json"))
    else:
        say(f"cancel asked for; next: dagmaster status {job_id}")
    return exits.COMPLETED


@command("rerun", "dagmaster rerun JOB", "dagmaster rerun JOB --newest", panel=RUN)
async def rerun(
    job_id: JobArgument,
    newest: Annotated[
        bool, typer.Option("--newest", help="With the newest definition instead of the job's own.")
    ] = False,
    url: UrlOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Run a job's inputs again."""
    from dagmaster.cli.shared import service

    async with service(url, data) as client:
        made = await client.rerun(job_id, "newest" if newest else "pinned")
    if as_json:
        tell(made.model_dump(mode="json"))
    else:
        _print_made(made, "submitted", quiet=quiet)
    return exits.COMPLETED


@command("orchestrator", "dagmaster orchestrator", panel=PROCESSES)
async def orchestrator(as_json: JsonOption = False, quiet: QuietOption = False) -> None:
    """Run an orchestrator of its own against DAGMASTER_DATABASE_URL; any number may run side by side."""
    from dagmaster.cli.loop import stop_on_signals
    from dagmaster.cli.shared import read_settings
    from dagmaster.run.orchestrator import run_orchestrator

    settings = read_settings()
    database, storage = settings.require_database(), settings.require_storage()
    _say_running("orchestrator", as_json=as_json, quiet=quiet)
    await run_orchestrator(database, storage, stop_on_signals(), settings.retention)


@command(
    "worker",
    "dagmaster worker",
    "dagmaster worker --processes 4 --queue heavy",
    "dagmaster worker --handlers handlers",
    panel=PROCESSES,
)
async def worker(
    processes: Annotated[int | None, typer.Option("--processes", min=1, max=256, help="Child processes.")] = None,
    queues: Annotated[
        list[str] | None, typer.Option("--queue", metavar="NAME", help="A queue to serve; repeat it. All if absent.")
    ] = None,
    handlers: HandlersOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Run a worker of its own against DAGMASTER_DATABASE_URL; any number may run side by side."""
    from dagmaster.cli.loop import stop_on_signals
    from dagmaster.cli.shared import own_handlers, read_settings
    from dagmaster.run.worker import QUEUES, WorkerPlan, run_worker

    settings = read_settings()
    plan = WorkerPlan(
        settings.require_database(),
        settings.require_storage(),
        settings.require_scratch(),
        processes or settings.worker_processes,
        settings.worker_memory_mib,
        queues or QUEUES,
        outside=own_handlers(settings, handlers).refuse_faults(),
    )
    _say_running("worker", as_json=as_json, quiet=quiet)
    await run_worker(plan, stop_on_signals())


def _print_made(made: JobAccepted, what: str, *, quiet: bool) -> None:
    print(made.job_id)
    if not quiet:
        say(f"{what}; next: dagmaster watch {made.job_id}")


def _say_running(what: str, *, as_json: bool, quiet: bool) -> None:
    import os

    if not quiet:
        say(f"{what} running; stop: Ctrl-C")
    if as_json:
        tell({"process": what, "pid": os.getpid()})
