"""Works in phases and remembers them."""

from __future__ import annotations

from pydantic import Field

from dagmaster.handlers.base import Context, Output, Params, handler


class PhaseParams(Params):
    """How many phases."""

    phases: int = Field(default=3, ge=1, le=10_000)


class PhaseOutput(Output):
    """What each phase left behind."""

    phases_completed: int
    results: list[str]


@handler("multi_phase", isolation="inline")
def run(params: PhaseParams, ctx: Context) -> PhaseOutput:
    """Do the phases one by one, with a checkpoint after each; a resumed attempt goes on after the last."""
    done, data = ctx.resume()
    results = list(data.get("results", []))
    for phase in range(done + 1, params.phases + 1):
        results.append(f"phase {phase} done")
        ctx.progress(100 * phase / params.phases, f"phase {phase} of {params.phases}")
        ctx.checkpoint(phase, {"results": results})
    return PhaseOutput(phases_completed=params.phases, results=results)
