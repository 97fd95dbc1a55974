"""`dagmaster init`: a small project with one handler, one workflow and one test."""

from __future__ import annotations

import keyword
import re
from pathlib import Path

from dagmaster.cli.refusals import ProjectFileExists, ProjectNameInvalid
from dagmaster.dag import library
from dagmaster.handlers import BUNDLED

NAME = re.compile(r"^[a-z][a-z0-9_]{0,47}$")

HANDLER = '''"""The area of a box on the globe."""

from math import radians, sin

from dagmaster.handlers.base import Context, Output, Params, handler
from pydantic import Field

EARTH_RADIUS_KM = 6371.0088


class BoxParams(Params):
    """A box in degrees, and into how many strips it is cut."""

    west: float = Field(ge=-180, le=180)
    south: float = Field(ge=-90, le=90)
    east: float = Field(ge=-180, le=180)
    north: float = Field(ge=-90, le=90)
    strips: int = Field(default=4, ge=1, le=1000)


class BoxOutput(Output):
    """The area in square kilometres: of each strip, from south to north, and of all."""

    strips_km2: list[float]
    area_km2: float


@handler("{name}", version=1)
def run(params: BoxParams, ctx: Context) -> BoxOutput:
    """Measure a box on the globe, strip by strip."""
    height = (params.north - params.south) / params.strips
    width = radians((params.east - params.west) % 360)
    areas = []
    for strip in range(params.strips):
        south = params.south + strip * height
        areas.append(EARTH_RADIUS_KM**2 * width * (sin(radians(south + height)) - sin(radians(south))))
        ctx.progress(100 * (strip + 1) / params.strips, f"strip {{strip + 1}} of {{params.strips}}")
    return BoxOutput(strips_km2=areas, area_km2=sum(areas))
'''

WORKFLOW = """workflow_id: {name}
name: {title}
version: 1
description: Measures a box on the globe.

inputs:
  west: {{type: number, description: degrees}}
  south: {{type: number, description: degrees}}
  east: {{type: number, description: degrees}}
  north: {{type: number, description: degrees}}

nodes:
  start:
    type: start
    next: measure
  measure:
    type: task
    handler: {name}
    params:
      west: "{{{{ inputs.west }}}}"
      south: "{{{{ inputs.south }}}}"
      east: "{{{{ inputs.east }}}}"
      north: "{{{{ inputs.north }}}}"
    next: end
  end:
    type: end
"""

TEST = '''"""The handler as a plain function, and the workflow as dagmaster checks it."""

from pathlib import Path

import pytest
from dagmaster.dag.check import check
from dagmaster.dag.library import read
from dagmaster.handlers.testing import TestContext

from {name} import BoxParams, run

WORKFLOW = Path(__file__).parent.parent / "workflows" / "{name}.yaml"


def test_the_globe_has_its_area(tmp_path: Path) -> None:
    context = TestContext(tmp_path)
    output = run(BoxParams(west=-90, south=-90, east=90, north=90), context)
    assert output.area_km2 * 2 == pytest.approx(510_065_900, rel=1e-4)
    assert len(output.strips_km2) == 4
    assert context.progressed[-1] == (100, "strip 4 of 4")


def test_the_workflow_is_valid() -> None:
    assert list(check(read(WORKFLOW), {{run.name: run.spec()}})) == []
'''

README = """# {name}

A project for dagmaster: one handler, one workflow, one test. Run these here, in this folder.

Test the handler and the workflow:

```sh
python -m pytest
```

Try the handler alone, without a database:

```sh
dagmaster handler run {name} --handlers handlers -i west=5 -i south=45 -i east=11 -i north=48
```

Run the workflow, with everything that it needs started and stopped:

```sh
dagmaster run {name} --handlers handlers --workflows workflows -i west=5 -i south=45 -i east=11 -i north=48
```

`dagmaster up --handlers handlers --workflows workflows` keeps it running. A handler that was changed is read at the
next start; when what it takes or returns changes, count its `version` up.
"""

CONFIGURATION = """[tool.pytest.ini_options]
pythonpath = ["handlers"]
testpaths = ["tests"]

[tool.mypy]
strict = true
mypy_path = "handlers"
files = ["handlers", "tests"]

[tool.ruff]
line-length = 120
src = ["handlers"]
"""


def make(folder: Path, name: str | None) -> tuple[str, list[Path]]:
    """Write the project; returns its name and files. Errors: ProjectNameInvalid, ProjectFileExists."""
    name = _checked(name if name is not None else re.sub(r"[^a-z0-9]+", "_", folder.absolute().name.lower()).strip("_"))
    words = {"name": name, "title": name.replace("_", " ").capitalize()}
    texts = {
        folder / "handlers" / f"{name}.py": HANDLER.format(**words),
        folder / "workflows" / f"{name}.yaml": WORKFLOW.format(**words),
        folder / "tests" / f"test_{name}.py": TEST.format(**words),
        folder / "README.md": README.format(**words),
        folder / "pyproject.toml": CONFIGURATION,
    }
    _refuse_existing(folder, list(texts))
    for file, text in texts.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("x", encoding="utf-8") as opened:
            opened.write(text)
    return name, list(texts)


def _checked(name: str) -> str:
    if not NAME.match(name):
        problem = "it is written with small letters, digits and `_`, begins with a letter, and has 48 of them at most"
    elif keyword.iskeyword(name):
        problem = "Python keeps that word for itself"
    elif name in BUNDLED or name in library.bundled():
        problem = "a bundled handler or workflow has that name"
    else:
        return name
    raise ProjectNameInvalid(name=name, problem=problem)


def _refuse_existing(folder: Path, files: list[Path]) -> None:
    """Each file that is there, and each place where no folder can be made."""
    parents = [each for each in (folder, *dict.fromkeys(file.parent for file in files)) if each.is_file()]
    there = [*parents, *(file for file in files if file.exists() or file.is_symlink())]
    if there:
        problems = [{"message": str(file)} for file in there]
        raise ProjectFileExists(count=len(there), where=str(there[0]), problems=problems if problems[1:] else [])
