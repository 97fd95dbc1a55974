"""Runs stac-api-validator without a network: `python validate_api.py ROOT_URL GEOMETRY COLLECTION CLASS…`, prints JSON.

The validator fetches published schemas; here they come from the copies that the other tests validate with.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

import requests

sys.path.insert(0, str(Path(__file__).parents[1]))

from catalog.stac_schemas import schemas

ASKED = requests.sessions.Session.request


def request(self: requests.Session, method: str, url: str, **options: Any) -> requests.Response:
    """What stands in the copies is answered from there; our own service is asked."""
    if url.startswith("http://127.0.0.1:"):
        return ASKED(self, method, url, **options)
    found = schemas().get(url.rstrip("#"))
    answer = requests.Response()
    answer.status_code, answer.url = (200, url) if found is not None else (404, url)
    answer._content = json.dumps(found.contents if found is not None else None).encode()
    return answer


def main() -> None:
    """Validate, and print what was found."""
    from stac_api_validator.validations import QueryConfig, validate_api

    url, geometry, collection, *classes = sys.argv[1:]
    warnings, errors = validate_api(
        root_url=url, ccs_to_validate=classes, collection=collection, geometry=geometry, auth_bearer_token=None,
        auth_query_parameter=None, fields_nested_property="properties.created", validate_pagination=True, query_config=QueryConfig(*[None] * 13),
        transaction_collection=None, headers={},
    )  # fmt: skip
    sys.stdout.write(json.dumps({"errors": list(map(str, errors)), "warnings": list(map(str, warnings))}))


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    requests.sessions.Session.request = request  # type: ignore[assignment,method-assign]  # the same but for its source
    main()
