"""The main job on every raster of the shared collection: catalogued with a valid COG, or FAILED with the reason."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import httpx
import pytest
from rio_cogeo.cogeo import cog_validate

from acceptance.conftest import Program, Up
from catalog.stac_schemas import faults
from geo.test_shared_rasters import ACCEPTED, DATA, REFUSED

MINUTES_MAX = 20
COLLECTION = "everything"


def outcomes(program: Program, names: list[str]) -> None:
    """Submit all at once and look at what becomes of each."""
    with program.up() as up:
        jobs = {name: submit(up, DATA / name) for name in names}
        ended = {
            name: up.until(job_id, "COMPLETED", "FAILED", timeout=60 * MINUTES_MAX) for name, job_id in jobs.items()
        }
        with httpx.Client(base_url=f"{up.url}/stac", trust_env=False, timeout=60) as stac:
            for name, job in ended.items():
                if name in REFUSED:
                    look_at_refusal(name, job)
                else:
                    look_at_item(name, job, stac, program.data / "storage")
            found = stac.get("/search", params={"collections": COLLECTION, "limit": 100}).json()["features"]
        published = {str(path) for path in (program.data / "storage" / "silver-cogs").rglob("*.tif")}
        assert len(published) == len([name for name in names if name in ACCEPTED]), "nothing of a refused file is seen"
        assert len(found) == len(published)
    assert not list((program.data / "scratch").glob("*")), "no scratch is left"


def submit(up: Up, path: Path) -> str:
    inputs = {"local_path": os.fspath(path), "collection_id": COLLECTION, "item_id": path.name.replace(".", "-")}
    answer = httpx.post(
        f"{up.url}/api/v1/jobs", json={"workflow_id": "raster_ingest", "inputs": inputs}, trust_env=False, timeout=60
    )
    assert answer.status_code == 202, answer.text
    return str(answer.json()["job_id"])


def look_at_refusal(name: str, job: dict[str, Any]) -> None:
    code, words = REFUSED[name]
    assert job["status"] == "FAILED", name
    error = job["error"]
    assert error["code"] == code, (name, error)
    assert words is None or words in f"{error['message']} {error['why']}", (name, error)
    assert not error["retryable"], name


def look_at_item(name: str, job: dict[str, Any], stac: httpx.Client, storage: Path) -> None:
    assert job["status"] == "COMPLETED", (name, job["error"])
    cog = job["nodes"]["create_cog"]["output"]
    path = storage / cog["cog_container"] / cog["cog_blob"]
    valid, errors, warnings = cog_validate(path, strict=True, quiet=True)
    assert valid, (name, errors, warnings)
    item_id = job["nodes"]["register_item"]["output"]["item_id"]
    item = stac.get(f"/collections/{COLLECTION}/items/{item_id}").json()
    assert faults(item) == [], name
    kind, (west, south, east, north) = ACCEPTED[name]
    assert cog["raster_type"] == kind, name
    assert item["bbox"] == pytest.approx([west, south, east, north], abs=0.011), name
    preview = (storage / cog["cog_container"] / cog["preview_blob"]).read_bytes()
    assert preview.startswith(b"\x89PNG"), name


def present(names: list[str]) -> list[str]:
    missing = [name for name in names if not (DATA / name).is_file()]
    if missing:
        pytest.skip(f"{DATA / missing[0]} is not here, nor perhaps others")
    return names


@pytest.mark.timeout(60 * MINUTES_MAX)
def test_every_raster_goes_through_the_main_job(program: Program) -> None:
    outcomes(program, present([*REFUSED, *ACCEPTED]))
