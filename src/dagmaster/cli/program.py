"""The program: its groups, and the options that commands share.

Nothing here, and nothing at the top of the files of commands, imports what only a running command needs: `--help` and
completion are answered before a database driver or a web framework would have been read.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from uuid import UUID

import typer

from dagmaster.cli import completion
from dagmaster.errors import NotFound

Command = TypeVar("Command", bound=Callable[..., Any])

RUN = "Run"
LOOK = "Look"
MAKE = "Workflows and handlers"
PROCESSES = "Processes of their own"
MACHINE = "This machine"

app = typer.Typer(
    name="dagmaster",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["--help", "-h"]},
    help=(
        "Orchestration of geospatial data work.\n\n\b\n"
        "dagmaster demo                            a real raster from file to map\n"
        "dagmaster run echo_test -i message=hello  one job\n"
        "dagmaster up                              keep it running"
    ),
)

PANELS = (RUN, LOOK, MAKE, PROCESSES, MACHINE)
"""In the order in which the help shows them."""

EXAMPLES: dict[str, tuple[str, ...]] = {}
"""What the help of each command opens with; the reference shows them too, and a test parses every one."""


def group(name: str, panel: str, about: str) -> typer.Typer:
    """A noun with verbs of its own."""
    made = typer.Typer(name=name, no_args_is_help=True, help=about)
    app.add_typer(made, name=name, rich_help_panel=panel)
    return made


workflow_app = group("workflow", MAKE, "Look at workflows and check definitions.")
handler_app = group("handler", MAKE, "Try handlers out.")
job_app = group("job", LOOK, "Look inside one job.")
service_app = group("service", LOOK, "Look at the parts of a running dagmaster.")


def command(name: str, *examples: str, panel: str | None = None, of: typer.Typer = app) -> Callable[[Command], Command]:
    """Register a command whose help is its docstring and then its examples.

    It returns its exit code; a coroutine function is run, and what it raises becomes a message (`exits.py`).
    """

    def register(function: Command) -> Command:
        noun = "" if of is app else f"{of.info.name} "
        EXAMPLES[f"{noun}{name}"] = examples
        about = (function.__doc__ or "").strip()
        shown = "\n\n\b\nExamples:\n" + "\n".join(f"  {example}" for example in examples) if examples else ""
        return of.command(name, help=about + shown, rich_help_panel=panel)(function)

    return register


JobStatus = Literal["PENDING", "RUNNING", "PAUSED", "COMPLETED", "FAILED", "CANCELLED"]
NodeStatus = Literal["READY", "DISPATCHED", "RUNNING", "WAITING", "COMPLETED", "FAILED", "SKIPPED", "CANCELLED"]
"""As the API has them, without importing it."""

DataOption = Annotated[Path | None, typer.Option("--data", help="Data folder; `.dagmaster` in this folder if absent.")]
UrlOption = Annotated[str | None, typer.Option("--url", help="Address of a running dagmaster.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print exactly one JSON document to stdout.")]
LinesOption = Annotated[bool, typer.Option("--jsonl", help="Print one JSON document per line to stdout.")]
QuietOption = Annotated[bool, typer.Option("--quiet", help="No progress.")]
InputOption = Annotated[
    list[str] | None,
    typer.Option(
        "--input", "-i", metavar="KEY=VALUE", help="One input; repeat it.", autocompletion=completion.input_keys
    ),
]
FileOption = Annotated[Path | None, typer.Option("--inputs", metavar="FILE.json", help="Inputs as a JSON object.")]
HandlersOption = Annotated[
    list[Path] | None, typer.Option("--handlers", metavar="DIR", help="A folder of handlers of your own; repeat it.")
]
WorkflowsOption = Annotated[
    list[Path] | None, typer.Option("--workflows", metavar="DIR", help="A folder of workflows of your own; repeat it.")
]
CorrelationOption = Annotated[
    str | None, typer.Option("--correlation-id", metavar="ID", help="A word of your own that the job carries.")
]
PriorityOption = Annotated[int, typer.Option("--priority", min=-100, max=100, help="Higher goes first.")]
JobStatusOption = Annotated[
    JobStatus | None, typer.Option("--status", case_sensitive=False, metavar="STATUS", help="FAILED, RUNNING, …")
]
NodeStatusOption = Annotated[
    NodeStatus | None, typer.Option("--status", case_sensitive=False, metavar="STATUS", help="FAILED, RUNNING, …")
]
NodeOption = Annotated[
    str | None,
    typer.Option("--node", help="One node; `split__3` is a child of `split`.", autocompletion=completion.nodes),
]
WorkflowArgument = Annotated[
    str,
    typer.Argument(
        metavar="WORKFLOW", help="A workflow's id, or the path of a YAML file.", autocompletion=completion.workflows
    ),
]
DefinitionArgument = Annotated[
    str,
    typer.Argument(metavar="FILE", help="A YAML file, or a workflow's id.", autocompletion=completion.workflows),
]


def _job_id(ctx: typer.Context, given: str) -> str:
    """No job has a name that is no id; nobody needs to be asked for it. Errors: NotFound."""
    if not ctx.resilient_parsing:
        try:
            UUID(given)
        except ValueError:
            raise NotFound(noun="job", id=given) from None
    return given


JobArgument = Annotated[
    str, typer.Argument(metavar="JOB", help="A job id.", callback=_job_id, autocompletion=completion.jobs)
]
LiveJobArgument = Annotated[
    str,
    typer.Argument(
        metavar="JOB",
        help="The id of a job that has not ended.",
        callback=_job_id,
        autocompletion=completion.live_jobs,
    ),
]
