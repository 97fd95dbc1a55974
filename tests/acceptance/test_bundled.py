"""Every workflow that comes with the program runs with the inputs it is documented with; so do definitions as the
predecessor wrote them: nodes as a mapping, START and END, versions as text, its queue names, every form of a condition."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from acceptance.conftest import Program, Up
from dagmaster.dag import library

ITEMS = ["north", "south", "east"]
COMMON = {"version": "1.0", "is_active": True, "description": "as the predecessor wrote it"}
START = {"START": {"type": "start", "next": ["first"]}}
END = {"END": {"type": "end"}}

ORIGINALS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "queues-and-retry": (
        {
            "first": {
                "type": "task", "handler": "echo", "queue": "functionapp-tasks", "timeout_seconds": 60,
                "params": {"message": "{{ inputs.message }}", "extra": "{{ inputs.extra | default('none', true) }}"},
                "retry": {"max_attempts": 2, "backoff": "exponential", "initial_delay_seconds": 1, "max_delay_seconds": 9},
                "next": ["second"],
            },
            "second": {
                "type": "task", "handler": "echo", "queue": "container-tasks",
                "params": {"again": "{{ nodes.first.output.echoed_params.message }}"}, "next": "END",
            },
        },
        {"first": "COMPLETED", "second": "COMPLETED"},
    ),
    "field-and-comparisons": (
        {
            "first": {"handler": "echo", "params": {"size": 120}, "next": "route"},
            "route": {
                "type": "conditional", "condition_field": "{{ nodes.first.output.echoed_params.size }}",
                "branches": [
                    {"name": "small", "condition": "< 100", "next": "light"},
                    {"name": "large", "condition": ">= 100", "next": "heavy"},
                    {"name": "else", "default": True, "next": "light"},
                ],
            },
            "light": {"handler": "echo", "params": {"way": "light"}, "next": "join"},
            "heavy": {"handler": "echo", "params": {"way": "heavy"}, "next": "join"},
            "join": {"handler": "echo", "depends_on": {"any_of": ["light", "heavy"]}, "params": {"at": "join"}, "next": "END"},
        },
        {"light": "SKIPPED", "heavy": "COMPLETED", "join": "COMPLETED"},
    ),
    "text-around-braces": (
        {
            "first": {"handler": "echo", "params": {"size": 7}, "next": "route"},
            "route": {
                "type": "conditional", "condition": "{{ nodes.first.output.echoed_params.size }} > 100",
                "on_true": "heavy", "on_false": "light",
            },
            "light": {"handler": "echo", "params": {}, "next": "END"},
            "heavy": {"handler": "echo", "params": {}, "next": "END"},
        },
        {"light": "COMPLETED", "heavy": "SKIPPED"},
    ),
    "branches-by-truth": (
        {
            "first": {"handler": "echo", "params": {"size": 7}, "next": "route"},
            "route": {
                "type": "conditional", "condition": "{{ nodes.first.output.echoed_params.size < inputs.limit }}",
                "branches": {True: "light", False: "heavy"},
            },
            "light": {"handler": "echo", "params": {}, "next": "END"},
            "heavy": {"handler": "echo", "params": {}, "next": "END"},
        },
        {"light": "COMPLETED", "heavy": "SKIPPED"},
    ),
    "fan-with-dependencies": (
        {
            "first": {"handler": "echo", "params": {"items": "{{ inputs.items }}"}, "next": "split"},
            "split": {
                "type": "fan_out", "source": "{{ nodes.first.output.echoed_params.items }}",
                "task": {
                    "handler": "echo", "queue": "dag-worker-tasks", "timeout_seconds": 60,
                    "params": {"what": "{{ item }}", "nr": "{{ index }}"},
                },
                "retry": {"max_attempts": 1, "backoff": "fixed", "initial_delay_seconds": 1}, "next": "merge",
            },
            "merge": {"type": "fan_in", "aggregation": "collect", "next": "last"},
            "last": {
                "handler": "echo", "depends_on": {"all_of": "merge"},
                "params": {"count": "{{ nodes.merge.output.count }}"}, "next": "END",
            },
        },
        {"split": "COMPLETED", "merge": "COMPLETED", "last": "COMPLETED"},
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def up(shared_program: Program) -> Iterator[Up]:
    with shared_program.up() as running:
        yield running


def run(up: Up, body: dict[str, Any]) -> dict[str, Any]:
    answer = httpx.post(f"{up.url}/api/v1/jobs", json=body, trust_env=False, timeout=60)
    assert answer.status_code == 202, answer.text
    return up.until(answer.json()["job_id"], "COMPLETED", "FAILED", timeout=120)


def bundled(up: Up, name: str, **inputs: Any) -> dict[str, Any]:
    job = run(up, {"workflow_id": name, "inputs": inputs})
    assert job["status"] == "COMPLETED", (name, job["error"])
    return job["nodes"]  # type: ignore[no-any-return]


def test_each_bundled_workflow_is_run_here() -> None:
    """A new one needs a test below, or one of its own."""
    text = Path(__file__).read_text("utf-8")
    missing = set(library.available()) - {"raster_ingest"}
    assert not {name for name in missing if f'"{name}"' not in text}


def test_echo(up: Up) -> None:
    (output,) = [node["output"] for name, node in bundled(up, "echo_test", message="hi").items() if node["output"]]
    assert output["echoed_params"] == {"message": "hi", "count": 1}


def test_hello_world(up: Up) -> None:
    outputs = [node["output"] for node in bundled(up, "hello_world").values() if node["output"]]
    assert "Hello from DAG!" in str(outputs)


def test_fan_out(up: Up) -> None:
    nodes = bundled(up, "fan_out_test", item_list=ITEMS)
    results = nodes["aggregate"]["output"]["results"]
    assert [(result["echoed_params"]["item"], result["echoed_params"]["index"]) for result in results] == [
        (item, index) for index, item in enumerate(ITEMS)
    ]
    assert nodes["aggregate"]["output"]["count"] == 3


def test_retries(up: Up) -> None:
    """Six attempts that fail half of the time: one job in 64 fails, and then it says so with all attempts spent."""
    job = run(up, {"workflow_id": "retry_test", "inputs": {}})
    flaky = job["nodes"]["flaky"]
    assert 1 <= flaky["attempt"] <= 6
    assert (job["status"] == "COMPLETED") or flaky["attempt"] == 6


def test_retries_of_children(up: Up) -> None:
    job = run(up, {"workflow_id": "retry_fan_out_test", "inputs": {"item_list": ITEMS}})
    done = [name for name, node in job["nodes"].items() if node["output"] and node["output"].get("count") == 3]
    assert job["status"] == "FAILED" or len(done) == 1


def test_data_pipeline(up: Up) -> None:
    nodes = bundled(up, "data_pipeline_test", message="through")
    assert "through" in str(nodes)
    assert "test-run" in str(nodes), "the default of extra_tag"


def test_checkpoints(up: Up) -> None:
    nodes = bundled(up, "checkpoint_test", message="step by step", steps=3, step_delay=0.05)
    assert nodes["echo"]["output"]["echoed_params"]["message"] == "step by step"


def test_raster_validation(up: Up, shared_program: Program, raster: Path) -> None:
    container = shared_program.data / "storage" / "bronze-rasters"
    container.mkdir(parents=True)
    (container / "blue_marble.tif").hardlink_to(raster)
    nodes = bundled(up, "raster_validate_test", blob_path="bronze-rasters/blue_marble.tif")
    (output,) = [node["output"] for node in nodes.values() if node["output"] and "band_count" in node["output"]]
    assert (output["band_count"], output["shape"], output["raster_type"]["type"]) == (3, [2700, 5400], "rgb")


@pytest.mark.parametrize("name", ORIGINALS)
def test_definition_as_the_predecessor_wrote_it(up: Up, name: str) -> None:
    nodes, expected = ORIGINALS[name]
    definition = COMMON | {
        "workflow_id": name,
        "name": name,
        "inputs": {
            "message": {"type": "string", "required": False, "default": "hello"},
            "extra": {"type": "string", "required": False},
            "limit": {"type": "integer", "required": False, "default": 100},
            "items": {"type": "array", "required": False, "default": ITEMS},
        },
        "nodes": START | nodes | END,
    }
    job = run(up, {"definition": yaml.safe_dump(definition, sort_keys=False), "inputs": {}})
    assert job["status"] == "COMPLETED", job["error"]
    assert {node: job["nodes"][node]["status"] for node in expected} == expected
