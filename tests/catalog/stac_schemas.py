"""Validation of STAC documents by the published JSON schemas, without any network."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator
from referencing import Registry, Resource

EXTENSIONS = Path(__file__).parents[3] / "shared" / "data" / "stac" / "schemas" / "extensions"
CORE = "https://schemas.stacspec.org/v1.1.0/{0}-spec/json-schema/{0}.json"
KINDS = {"Feature": "item", "Collection": "collection"}
ELSEWHERE = "https://proj.org/schemas/v0.7/projjson.schema.json"
"""Referred to for proj:projjson, which dagmaster does not write."""
MISPRINT = "/json-schema/commonjson"
"""The `$id` of common.json as STAC 1.1.0 published it; all others refer to it with a dot."""
MISPRINT_MEANT = "/json-schema/common.json"


def faults(document: dict[str, Any]) -> list[str]:
    """What the core schema and those of the document's own extensions find wrong."""
    if not EXTENSIONS.is_dir():
        pytest.skip(f"the schemas of the STAC extensions are not at {EXTENSIONS}")
    document = json.loads(json.dumps(document, allow_nan=False))
    found = []
    for uri in [CORE.format(KINDS[document["type"]]), *document["stac_extensions"]]:
        validator = Draft7Validator({"$ref": uri}, registry=schemas())
        for fault in validator.iter_errors(document):
            found.append(
                f"{uri}: {fault.json_path}: {fault.message[:300]} {[f.message[:200] for f in fault.context or []]}"
            )
    return found


@cache
def schemas() -> Registry[Any]:
    """Every schema by its `$id`."""
    core = Path(str(files("pystac.validation") / "jsonschemas"))
    texts = [path.read_text("utf-8") for root in (core, EXTENSIONS) for path in sorted(root.rglob("*.json"))]
    contents = [json.loads(text.replace(MISPRINT, MISPRINT_MEANT)) for text in texts]
    named = [(content["$id"].rstrip("#"), Resource.from_contents(content)) for content in contents if "$id" in content]
    nothing = Resource.from_contents({"$schema": "http://json-schema.org/draft-07/schema#", "not": {}})
    return Registry().with_resources([*named, (ELSEWHERE, nothing)])
