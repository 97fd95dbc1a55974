"""What the bundled handlers take and return, readable without importing one of them.

`python -m dagmaster.handlers.manifest` writes the file again; a test keeps it current.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from dagmaster import handlers
from dagmaster.contract.handlers import HandlerSpec

FILE = Path(__file__).with_name("manifest.json")


@cache
def bundled_specs() -> dict[str, HandlerSpec]:
    """The specs of the bundled handlers, by name."""
    return {name: HandlerSpec(**spec) for name, spec in json.loads(FILE.read_text("utf-8")).items()}


def text() -> str:
    """The manifest as it should be; imports every handler."""
    specs = {name: handlers.load(name).spec().model_dump(mode="json") for name in sorted(handlers.BUNDLED)}
    return json.dumps(specs, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), "utf-8")
    print(f"wrote {FILE.name}: {len(handlers.BUNDLED)} handlers")
