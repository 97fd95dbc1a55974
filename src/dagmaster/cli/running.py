"""Commands that start something: the profile, jobs, processes."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Annotated

import typer

from dagmaster.cli import exits
from dagmaster.cli.screen import json_document
from dagmaster.cli.shared import (
    DataOption,
    FileOption,
    HandlersOption,
    InputOption,
    JobArgument,
    JsonOption,
    QuietOption,
    UrlOption,
    WorkflowArgument,
    WorkflowsOption,
    app,
    follow,
    own_handlers,
    print_job,
    profile,
    run_async,
    stop_on_signals,
    submission,
)
from dagmaster.client.client import Client
from dagmaster.contract.api import SubmitJob
from dagmaster.run.places import data_folder, running_url, service_url
from dagmaster.settings import Settings


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
        stop = stop_on_signals()
        folder = data_folder(settings, data)
        found = own_handlers(settings, handlers).refuse_faults()
        exits.say(f"starting dagmaster in {folder} …")
        async with profile(settings, folder, port, found, workflows) as running:
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

    run_async(serve())


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
        body = submission(workflow, inputs, inputs_file, settings.workflow_folders(workflows))
        async with AsyncExitStack() as stack:
            folder = data_folder(settings, data)
            url = running_url(folder)
            if url is None:
                found = own_handlers(settings, handlers).refuse_faults()
                url = (await stack.enter_async_context(profile(settings, folder, None, found, workflows))).url
            elif handlers:
                exits.say(f"dagmaster is up at {url} with handlers of its own; --handlers is not used")
            client = await stack.enter_async_context(Client(url))
            job = await follow(client, (await client.submit(body)).job_id, quiet=quiet or as_json)
            return print_job(job, as_json=as_json)

    run_async(work(), as_json=as_json)


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
    queue: Annotated[
        bool, typer.Option("--queue", help="Straight into the job queue of DAGMASTER_DATABASE_URL, without the API.")
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Submit a job to a running dagmaster, by HTTP or straight through the job queue."""
    settings = Settings()

    async def work() -> int:
        body = submission(workflow, inputs, inputs_file).model_copy(update={"idempotency_key": idempotency_key})
        if queue:
            from dagmaster.run.enqueue import enqueue

            job_id = await enqueue(settings.require_database(), body)
            if as_json:
                exits.say_json({"job_id": job_id})
            else:
                print(job_id)
            return exits.COMPLETED
        async with Client(service_url(settings, url, data)) as client:
            made = await client.submit(body)
            if wait:
                return print_job(await follow(client, made.job_id, quiet=quiet or as_json), as_json=as_json)
            if as_json:
                exits.say_json(json_document(await client.job(made.job_id)))
            else:
                print(made.job_id)
                exits.say(f"{'submitted' if made.created else 'submitted before'}; next: dagmaster watch {made.job_id}")
            return exits.COMPLETED

    run_async(work(), as_json=as_json)


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
            return print_job(await follow(client, job_id, quiet=quiet or as_json), as_json=as_json)

    run_async(work(), as_json=as_json)


@app.command()
def cancel(
    job_id: JobArgument,
    url: UrlOption = None,
    data: DataOption = None,
    reason: Annotated[str, typer.Option("--reason", help="Why; the job's history keeps it.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Stop one job; its running handlers are told to end."""
    settings = Settings()

    async def work() -> int:
        async with Client(service_url(settings, url, data)) as client:
            await client.cancel(job_id, reason)
        if as_json:
            exits.say_json({"job_id": job_id, "cancel_requested": True})
        exits.say(f"cancel asked for; next: dagmaster status {job_id}")
        return exits.COMPLETED

    run_async(work(), as_json=as_json)


@app.command()
def demo(data: DataOption = None, as_json: JsonOption = False) -> None:
    """Ingest a real raster (NASA Blue Marble) from file to catalogue, and say where everything went."""
    from dagmaster.run import demo as demonstration

    settings = Settings()

    async def work() -> int:
        folder = data_folder(settings, data)
        source = await demonstration.sample_raster(folder)
        body = SubmitJob(workflow_id="raster_ingest", inputs=demonstration.inputs(source))
        async with AsyncExitStack() as stack:
            url = running_url(folder)
            if url is None:
                exits.say(f"starting dagmaster in {folder} …")
                url = (await stack.enter_async_context(profile(settings, folder, None))).url
            client = await stack.enter_async_context(Client(url))
            job = await follow(client, (await client.submit(body)).job_id, quiet=as_json)
            print_job(job, as_json=as_json)
            if job.status != "COMPLETED":
                return exits.FAILED
            for line in [] if as_json else demonstration.summary(job, folder):
                print(line)
            return exits.COMPLETED

    run_async(work(), as_json=as_json)


@app.command()
def orchestrator() -> None:
    """Run an orchestrator of its own against DAGMASTER_DATABASE_URL; any number may run side by side."""
    from dagmaster.run.orchestrator import run_orchestrator

    settings = Settings()

    async def serve() -> None:
        exits.say("orchestrator running; stop: Ctrl-C")
        await run_orchestrator(
            settings.require_database(), settings.require_storage(), stop_on_signals(), settings.retention
        )

    run_async(serve())


@app.command()
def worker(
    processes: Annotated[int | None, typer.Option("--processes", min=1, max=256, help="Child processes.")] = None,
    queues: Annotated[
        list[str] | None, typer.Option("--queue", help="A queue to serve; repeat it. All if absent.")
    ] = None,
    handlers: HandlersOption = None,
) -> None:
    """Run a worker of its own against DAGMASTER_DATABASE_URL; any number may run side by side."""
    from dagmaster.run.worker import QUEUES, WorkerPlan, run_worker

    settings = Settings()

    async def serve() -> None:
        plan = WorkerPlan(
            settings.require_database(),
            settings.require_storage(),
            settings.require_scratch(),
            processes or settings.worker_processes,
            settings.worker_memory_mib,
            queues or QUEUES,
            outside=own_handlers(settings, handlers).refuse_faults(),
        )
        exits.say("worker running; stop: Ctrl-C")
        await run_worker(plan, stop_on_signals())

    run_async(serve())


@app.command()
def rerun(
    job_id: JobArgument,
    newest: Annotated[
        bool, typer.Option("--newest", help="With the newest definition instead of the job's own.")
    ] = False,
    url: UrlOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run a job's inputs again."""
    settings = Settings()

    async def work() -> int:
        async with Client(service_url(settings, url, data)) as client:
            made = await client.rerun(job_id, "newest" if newest else "pinned")
        if as_json:
            exits.say_json(made.model_dump(mode="json"))
        else:
            print(made.job_id)
        exits.say(f"submitted; next: dagmaster watch {made.job_id}")
        return exits.COMPLETED

    run_async(work(), as_json=as_json)
