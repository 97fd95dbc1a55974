"""Commands that look: at jobs, workflows, handlers, this machine."""

from __future__ import annotations

import difflib
import json
import shutil
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from dagmaster.cli import completing, exits, projects, tryout
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
    definition_text,
    given_inputs,
    handler_app,
    own_handlers,
    print_job,
    reader,
    run_async,
    run_plain,
    workflow_app,
)
from dagmaster.dag import library
from dagmaster.dag.check import check
from dagmaster.dag.compile import compile_graph
from dagmaster.dag.definition import load
from dagmaster.dag.findings import CODES, render
from dagmaster.dag.inputs import input_schema
from dagmaster.errors import NotFound, Refused, WorkflowInvalid, by_code
from dagmaster.handlers import outside
from dagmaster.handlers.manifest import bundled_specs
from dagmaster.run import doctor as examination
from dagmaster.run.places import data_folder
from dagmaster.settings import Settings

DefinitionArgument = Annotated[
    str,
    typer.Argument(metavar="FILE", help="A YAML file, or a workflow's id.", autocompletion=completing.workflows),
]


@app.command()
def status(job_id: JobArgument, url: UrlOption = None, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Show one job."""
    settings = Settings()

    async def work() -> int:
        async with reader(settings, url, data) as client:
            job = await client.job(job_id)
            print_job(job, as_json=as_json)
            return exits.FAILED if job.status in ("FAILED", "CANCELLED") else exits.COMPLETED

    run_async(work(), as_json=as_json)


@app.command()
def jobs(
    url: UrlOption = None,
    data: DataOption = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=500)] = 20,
    job_status: Annotated[
        str | None, typer.Option("--status", help="COMPLETED, FAILED, RUNNING, …", autocompletion=completing.statuses)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List jobs, newest first."""
    settings = Settings()

    async def work() -> int:
        async with reader(settings, url, data) as client:
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

    run_async(work(), as_json=as_json)


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

    run_plain(work, as_json=as_json)


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

    run_plain(work, as_json=as_json)


@workflow_app.command("check")
def workflow_check(
    file: Annotated[
        str,
        typer.Argument(metavar="FILE", help="A YAML file, or a workflow's id.", autocompletion=completing.workflows),
    ],
    handlers: HandlersOption = None,
    workflows: WorkflowsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check a definition: everything that can be known before a run, with file, line and fix."""

    def work() -> int:
        settings = Settings()
        specs = {**own_handlers(settings, handlers).refuse_faults().specs, **bundled_specs()}
        name = file
        try:
            text, name = definition_text(file, settings.workflow_folders(workflows))
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

    run_plain(work, as_json=as_json)


@app.command()
def handlers(handlers: HandlersOption = None, as_json: JsonOption = False) -> None:
    """List the handlers, bundled and your own; exits with 1 when a file of yours cannot be used."""

    def work() -> int:
        found = own_handlers(Settings(), handlers)
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

    run_plain(work, as_json=as_json)


@handler_app.command("run")
def handler_run(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="A handler's name; dagmaster handlers lists them.", autocompletion=completing.handlers
        ),
    ],
    inputs: InputOption = None,
    inputs_file: FileOption = None,
    handlers: HandlersOption = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the scratch folder, to look into.")] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Run one handler in this process, without a database, a workflow or retries."""

    def work() -> int:
        handler = tryout.find(name, own_handlers(Settings(), handlers))
        given = tryout.typed(handler, given_inputs(inputs or [], inputs_file))
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

    run_plain(work, as_json=as_json)


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

    run_plain(work, as_json=as_json)


@app.command()
def doctor(data: DataOption = None, handlers: HandlersOption = None, as_json: JsonOption = False) -> None:
    """Look for what is wrong on this machine, and say what to do."""
    settings = Settings()

    async def work() -> int:
        findings = await examination.examine(data_folder(settings, data))
        found = own_handlers(settings, handlers)
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

    run_async(work(), as_json=as_json)


@app.command()
def explain(
    code: Annotated[str, typer.Argument(metavar="CODE", autocompletion=completing.codes)], as_json: JsonOption = False
) -> None:
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

    run_plain(work, as_json=as_json)


@app.command()
def version(as_json: JsonOption = False) -> None:
    """Print the version and the date of the build."""
    from dagmaster.api.health import build_date, installed_version

    if as_json:
        exits.say_json({"version": installed_version(), "build_date": build_date()})
    else:
        print(f"dagmaster {installed_version()} ({build_date()})")


@app.command()
def logs(
    job_id: JobArgument,
    node: Annotated[str | None, typer.Option("--node", help="One node; `split__3` is a child.")] = None,
    url: UrlOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print what a job's attempts said."""
    settings = Settings()

    async def work() -> int:
        items: list[dict[str, Any]] = []
        async with reader(settings, url, data) as client:
            after: int | None = 0
            while after is not None:
                page = await client.logs(job_id, node, after)
                items += [line.model_dump(mode="json") for line in page.items]
                after = page.next
        if as_json:
            exits.say_json({"items": items, "next": None})
        for line in [] if as_json else items:
            print(f"{line['at'][11:23]}  {line['node']}#{line['attempt']}  {line['message']}")
        return exits.COMPLETED

    run_async(work(), as_json=as_json)


@app.command()
def tasks(url: UrlOption = None, data: DataOption = None, as_json: JsonOption = False) -> None:
    """List live tasks and say why each one waits."""
    settings = Settings()

    async def work() -> int:
        async with reader(settings, url, data) as client:
            page = await client.tasks()
        if as_json:
            exits.say_json(page.model_dump(mode="json"))
        for line in [] if as_json else page.items:
            print(f"{line.job_id}  {line.node:<20}  {line.queue:<8}  {line.why}")
        return exits.COMPLETED

    run_async(work(), as_json=as_json)


@workflow_app.command("graph")
def workflow_graph(
    file: Annotated[
        str,
        typer.Argument(metavar="FILE", help="A YAML file, or a workflow's id.", autocompletion=completing.workflows),
    ],
    as_json: JsonOption = False,
) -> None:
    """Print a definition as a Mermaid diagram."""

    def work() -> int:
        text, name = definition_text(file)
        graph = compile_graph(load(text, name))
        edges = [(node.id, graph.nodes[behind].id) for node in graph.nodes for behind in node.successors]
        if as_json:
            nodes = [{"id": node.id, "type": node.type} for node in graph.nodes]
            exits.say_json({"nodes": nodes, "edges": [list(edge) for edge in edges]})
        else:
            print("flowchart LR\n" + "\n".join(f"    {before} --> {after}" for before, after in edges))
        return exits.COMPLETED

    run_plain(work, as_json=as_json)


@workflow_app.command("diff")
def workflow_diff(
    workflow_id: Annotated[str, typer.Argument(metavar="ID", autocompletion=completing.workflows)],
    before: Annotated[
        str | None, typer.Argument(help="A digest or its beginning; the version before if absent.")
    ] = None,
    after: Annotated[str | None, typer.Argument(help="A digest; the present definition if absent.")] = None,
    url: UrlOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show how two versions of a workflow differ."""
    settings = Settings()

    async def work() -> int:
        async with reader(settings, url, data) as client:
            known = (await client.versions(workflow_id)).items
            if before is None and not known:
                raise NotFound(noun="stored version of", id=workflow_id)
            found = await client.difference(workflow_id, before or known[min(1, len(known) - 1)].digest, after)
        if as_json:
            exits.say_json(found.model_dump(mode="json"))
        for line in [] if as_json else found.differences:
            print(f"{line.path}: {json.dumps(line.before)} -> {json.dumps(line.after)}")
        return exits.COMPLETED

    run_async(work(), as_json=as_json)
