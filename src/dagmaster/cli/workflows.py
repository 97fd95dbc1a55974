"""Commands that look at workflows and handlers, check them, try them, and begin new ones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dagmaster.cli import completion, exits
from dagmaster.cli.program import (
    MAKE,
    DataOption,
    DefinitionArgument,
    FileOption,
    HandlersOption,
    InputOption,
    JsonOption,
    LinesOption,
    QuietOption,
    UrlOption,
    WorkflowArgument,
    WorkflowsOption,
    command,
    handler_app,
    workflow_app,
)
from dagmaster.cli.talk import paint, say, show_table, tell, tell_page

WorkflowIdArgument = Annotated[
    str, typer.Argument(metavar="ID", help="A workflow's id.", autocompletion=completion.workflows)
]


@command("list", "dagmaster workflow list", "dagmaster workflow list --workflows workflows", of=workflow_app)
async def workflow_list(
    workflows: WorkflowsOption = None, as_json: JsonOption = False, as_lines: LinesOption = False
) -> None:
    """List the workflows: the bundled ones and your own."""
    from dagmaster.dag import library
    from dagmaster.settings import Settings

    folders = Settings().workflow_folders(workflows)
    found = [library.read(path) for path in library.available(folders).values()]
    if as_json or as_lines:
        words = ("workflow_id", "name", "version", "description")
        tell_page([{word: getattr(each, word) for word in words} for each in found], as_lines=as_lines)
    else:
        show_table(("workflow", "about"), ((each.workflow_id, each.description or each.name) for each in found))


@command("show", "dagmaster workflow show raster_ingest", of=workflow_app)
async def workflow_show(
    workflow: WorkflowArgument, workflows: WorkflowsOption = None, as_json: JsonOption = False
) -> None:
    """Show a workflow's inputs and nodes."""
    import json

    from dagmaster.dag import library
    from dagmaster.dag.inputs import input_schema
    from dagmaster.settings import Settings

    definition = library.find(workflow, Settings().workflow_folders(workflows))
    schema = input_schema(definition)
    if as_json:
        tell(
            {
                "workflow_id": definition.workflow_id,
                "version": definition.version,
                "definition": definition.document,
                "input_schema": schema,
            }
        )
        return
    print(f"{definition.workflow_id} (version {definition.version}): {definition.description or definition.name}")
    print("\ninputs")
    for name, about in schema["properties"].items():
        needed = "required" if name in schema.get("required", []) else f"default {json.dumps(about.get('default'))}"
        print(f"  {name:<18} {about.get('type', 'any')!s:<10} {needed}  {about.get('description', '')}".rstrip())
    print("\nnodes")
    for name, node in definition.document["nodes"].items():
        print(f"  {name:<18} {node.get('handler') or node.get('type', 'task')}")


@command(
    "check",
    "dagmaster workflow check greetings.yaml",
    "dagmaster workflow check greetings.yaml --handlers handlers --json",
    of=workflow_app,
)
async def workflow_check(
    file: DefinitionArgument,
    handlers: HandlersOption = None,
    workflows: WorkflowsOption = None,
    as_json: JsonOption = False,
) -> int:
    """Check a definition: everything that can be known before a run, with file, line and fix."""
    from dagmaster.cli.shared import definition_text, own_handlers
    from dagmaster.dag.check import check
    from dagmaster.dag.definition import load
    from dagmaster.dag.findings import render
    from dagmaster.errors import WorkflowInvalid
    from dagmaster.handlers.manifest import bundled_specs
    from dagmaster.settings import Settings

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
        tell({"file": name, "valid": not wrong, "findings": [finding.as_dict() for finding in findings]})
    else:
        for finding in findings:
            say(render(finding) + "\n")
        say(f"{name}: {len(wrong)} error(s), {len(findings) - len(wrong)} warning(s)")
    return exits.FAILED if wrong else exits.COMPLETED


@command("graph", "dagmaster workflow graph raster_ingest", of=workflow_app)
async def workflow_graph(
    file: DefinitionArgument, workflows: WorkflowsOption = None, as_json: JsonOption = False
) -> None:
    """Print a definition as a Mermaid diagram."""
    from dagmaster.cli.shared import definition_text
    from dagmaster.dag.compile import compile_graph
    from dagmaster.dag.definition import load
    from dagmaster.settings import Settings

    text, name = definition_text(file, Settings().workflow_folders(workflows))
    graph = compile_graph(load(text, name))
    edges = [(node.id, graph.nodes[behind].id) for node in graph.nodes for behind in node.successors]
    if as_json:
        nodes = [{"id": node.id, "type": node.type} for node in graph.nodes]
        tell({"nodes": nodes, "edges": [list(edge) for edge in edges]})
    else:
        print("flowchart LR\n" + "\n".join(f"    {before} --> {after}" for before, after in edges))


@command(
    "schema",
    "dagmaster workflow schema > workflow.schema.json",
    "dagmaster workflow schema raster_ingest",
    of=workflow_app,
)
async def workflow_schema(
    workflow: Annotated[
        str | None,
        typer.Argument(
            metavar="WORKFLOW",
            help="A workflow whose inputs are described; the language of workflow files if absent.",
            autocompletion=completion.workflows,
        ),
    ] = None,
    workflows: WorkflowsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the JSON Schema of workflow files, for editors, or that of a workflow's inputs."""
    import json

    from dagmaster.dag import library, schema
    from dagmaster.dag.inputs import input_schema
    from dagmaster.settings import Settings

    if workflow is None:
        document = schema.workflow_schema()
    else:
        document = input_schema(library.find(workflow, Settings().workflow_folders(workflows)))
    print(json.dumps(document, indent=None if as_json else 2, ensure_ascii=False))


@command("versions", "dagmaster workflow versions raster_ingest", of=workflow_app)
async def workflow_versions(
    workflow_id: WorkflowIdArgument,
    url: UrlOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
    as_lines: LinesOption = False,
) -> None:
    """List the versions of a workflow that jobs have used, newest first."""
    from dagmaster.cli.shared import reader

    async with reader(url, data) as client:
        found = (await client.versions(workflow_id)).items
    if as_json or as_lines:
        tell_page([line.model_dump(mode="json") for line in found], as_lines=as_lines)
        return
    rows = (
        (line.digest[:12], f"{line.created_at.astimezone():%Y-%m-%d %H:%M:%S}", str(line.version)) for line in found
    )
    show_table(("digest", "first used", "version"), rows)
    if not found:
        say("no job has used it yet")


@command(
    "diff",
    "dagmaster workflow diff raster_ingest",
    "dagmaster workflow diff raster_ingest 1f0c 9ab2",
    of=workflow_app,
)
async def workflow_diff(
    workflow_id: WorkflowIdArgument,
    before: Annotated[
        str | None,
        typer.Argument(
            help="A digest or its beginning; the version before if absent.", autocompletion=completion.versions
        ),
    ] = None,
    after: Annotated[
        str | None,
        typer.Argument(help="A digest; the present definition if absent.", autocompletion=completion.versions),
    ] = None,
    url: UrlOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show how two versions of a workflow differ."""
    import json

    from dagmaster.cli.shared import reader
    from dagmaster.errors import NotFound

    async with reader(url, data) as client:
        known = (await client.versions(workflow_id)).items
        if before is None and not known:
            raise NotFound(noun="stored version of", id=workflow_id)
        found = await client.difference(workflow_id, before or known[min(1, len(known) - 1)].digest, after)
    if as_json:
        tell(found.model_dump(mode="json"))
        return
    for line in found.differences:
        print(f"{line.path}: {json.dumps(line.before)} -> {json.dumps(line.after)}")
    if not found.differences:
        say("they are the same")


@command("handlers", "dagmaster handlers", "dagmaster handlers --handlers handlers", panel=MAKE)
async def handlers(handlers: HandlersOption = None, as_json: JsonOption = False, as_lines: LinesOption = False) -> int:
    """List the handlers, bundled and your own; exits with 1 when a file of yours cannot be used."""
    from dagmaster.cli.shared import own_handlers
    from dagmaster.handlers.manifest import bundled_specs
    from dagmaster.settings import Settings

    found = own_handlers(Settings(), handlers)
    specs = dict(sorted({**bundled_specs(), **found.specs}.items()))
    faults = [{"place": fault.place, "reason": fault.reason} for fault in found.faults]
    if as_json or as_lines:
        items = [spec.model_dump(mode="json") for spec in specs.values()]
        tell_page(items, as_lines=as_lines, **({"faults": faults} if faults else {}))
    else:
        places = {name: f"  ({place})" for name, place in found.places.items()}
        rows = ((name, spec.summary + places.get(name, "")) for name, spec in specs.items())
        show_table(("handler", "about"), rows)
        for fault in found.faults:
            say(paint("red", "cannot be used") + f": {fault}")
    return exits.FAILED if faults else exits.COMPLETED


@command(
    "run",
    "dagmaster handler run size_check -i size_bytes=5",
    "dagmaster handler run box_area --handlers handlers --inputs box.json --keep",
    of=handler_app,
)
def handler_run(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="A handler's name; dagmaster handlers lists them.", autocompletion=completion.handlers
        ),
    ],
    inputs: InputOption = None,
    inputs_file: FileOption = None,
    handlers: HandlersOption = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the scratch folder, to look into.")] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Run one handler in this process, without a database, a workflow or retries."""
    import json
    import shutil
    import tempfile

    from dagmaster.cli import tryout
    from dagmaster.cli.shared import given_inputs, own_handlers
    from dagmaster.settings import Settings

    handler = tryout.find(name, own_handlers(Settings(), handlers))
    given = tryout.typed(handler, given_inputs(inputs or [], inputs_file))
    tryout.check(handler, given)
    folder = Path(tempfile.mkdtemp(prefix="dagmaster-"))
    try:
        tried = tryout.attempt(handler, given, folder, quiet=quiet)
    except KeyboardInterrupt:
        say("interrupted")
        return exits.INTERRUPTED
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
    if as_json:
        tell(tried.document(folder if keep else None))
    elif tried.outcome.error is None:
        print(json.dumps(tried.outcome.output, indent=2, ensure_ascii=False))
    else:
        say(exits.render_error({"node": None, "where": f"handler `{name}`"} | tried.outcome.error))
    if not as_json and not quiet:
        kept = f"; its folder: {folder}" if keep else ""
        say(f"{name} {'completed' if tried.outcome.completed else 'failed'} in {tried.seconds:.1f} s{kept}")
    return exits.COMPLETED if tried.outcome.completed else exits.FAILED


@command("init", "dagmaster init boxes --name box_area", panel=MAKE)
async def init(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="Where; this folder if absent.")] = Path(),
    name: Annotated[str | None, typer.Option("--name", help="Name of its handler; the folder's if absent.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a small project of your own: one handler, one workflow, one test."""
    from dagmaster.cli import projects

    made, files = projects.make(folder, name)
    if as_json:
        tell({"name": made, "files": [str(file) for file in files]})
        return
    for file in files:
        print(file)
    go = "" if folder.absolute() == Path.cwd() else f"cd {folder} && "
    say(f"made the project {made}; next: {go}python -m pytest      then: README.md")
