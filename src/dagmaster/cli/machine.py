"""Commands about this machine and this program."""

from __future__ import annotations

from typing import Annotated

import typer

from dagmaster.cli import completion, exits
from dagmaster.cli.program import MACHINE, DataOption, HandlersOption, JsonOption, LinesOption, command
from dagmaster.cli.refusals import UsageInvalid
from dagmaster.cli.talk import paint, tell, tell_page


@command("doctor", "dagmaster doctor", "dagmaster doctor --data /srv/dagmaster --json", panel=MACHINE)
async def doctor(
    data: DataOption = None,
    handlers: HandlersOption = None,
    as_json: JsonOption = False,
    as_lines: LinesOption = False,
) -> int:
    """Look for what is wrong on this machine, and say what to do."""
    from dagmaster.cli.shared import own_handlers, read_settings
    from dagmaster.handlers import outside
    from dagmaster.run.doctor import Finding, examine
    from dagmaster.run.places import data_folder

    settings = read_settings()
    findings = await examine(data_folder(settings, data))
    found = own_handlers(settings, handlers)
    findings += [Finding("handler", False, str(fault), outside.HandlersBroken.remedy) for fault in found.faults]
    if found.specs:
        findings.append(Finding("own handlers", True, ", ".join(sorted(found.specs))))
    if as_json or as_lines:
        tell_page([finding.__dict__ for finding in findings], as_lines=as_lines)
    else:
        for finding in findings:
            mark = paint("green", "ok  ") if finding.ok else paint("red", "FAIL")
            fix = f"\n     fix: {finding.remedy}" if finding.remedy else ""
            print(f"{mark} {finding.what}: {finding.fact}{fix}")
    return exits.COMPLETED if all(finding.ok for finding in findings) else exits.FAILED


@command("explain", "dagmaster explain CRS_MISSING", panel=MACHINE)
async def explain(
    code: Annotated[
        str, typer.Argument(metavar="CODE", help="As it stands in brackets.", autocompletion=completion.codes)
    ],
    as_json: JsonOption = False,
) -> None:
    """Explain an error code, or a code of the static check."""
    from dagmaster.cli import codes

    explanation = codes.explanation(code.upper())
    if explanation is None:
        near = codes.near(code.upper())
        remedy = f"Did you mean {near}?" if near else "docs/reference/errors.md lists them."
        raise UsageInvalid(problem=f"There is no error code `{code}`.", remedy=remedy)
    if as_json:
        tell(explanation)
    else:
        print(f"{explanation['code']}\n\n{explanation['explanation']}\n\nfix: {explanation['remedy']}")
        print("retry: helps" if explanation["retryable"] else "retry: does not help")


@command(
    "completion", "dagmaster completion bash > ~/.local/share/bash-completion/completions/dagmaster", panel=MACHINE
)
async def completions(
    shell: Annotated[str, typer.Argument(metavar="SHELL", help="bash, zsh or fish.", autocompletion=completion.shells)],
    as_json: JsonOption = False,
) -> None:
    """Print what makes a shell complete commands, options, ids and names."""
    from typer.completion import get_completion_script  # type: ignore[attr-defined]  # `--show-completion` uses it

    if shell not in completion.SHELLS:
        known = ", ".join(completion.SHELLS)
        raise UsageInvalid(problem=f"`{shell}` is no shell that this knows.", where="SHELL", remedy=f"One of {known}.")
    script = get_completion_script(prog_name="dagmaster", complete_var="_DAGMASTER_COMPLETE", shell=shell)
    if as_json:
        tell({"shell": shell, "script": script})
    else:
        print(script)


@command("version", "dagmaster version", panel=MACHINE)
async def version(as_json: JsonOption = False) -> None:
    """Print the version and the date of the build."""
    from dagmaster.api.health import build_date, installed_version

    if as_json:
        tell({"version": installed_version(), "build_date": build_date()})
    else:
        print(f"dagmaster {installed_version()} ({build_date()})")
