"""The bundled workflows, the library that finds them, and the schema that editors use."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest
import yaml

from dagmaster.dag.check import check
from dagmaster.dag.compile import compile_graph
from dagmaster.dag.definition import from_document
from dagmaster.dag.library import available, bundled, find
from dagmaster.dag.model import NODE_MODELS
from dagmaster.dag.schema import workflow_schema
from dagmaster.errors import WorkflowInvalid, WorkflowUnknown

NAMES = [
    "checkpoint_test", "data_pipeline_test", "echo_test", "fan_out_test", "hello_world", "raster_ingest",
    "raster_validate_test", "retry_fan_out_test", "retry_test",
]  # fmt: skip


def test_the_shelf_holds_the_originals_workflows() -> None:
    assert list(bundled()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_bundled_workflow_is_sound(name: str) -> None:
    definition = find(name)
    assert definition.workflow_id == name
    assert check(definition) == []
    made = compile_graph(definition)
    assert made.digest == from_document(definition.document).digest
    assert {node.type for node in made.nodes} >= {"start", "end"}


@pytest.mark.parametrize("name", NAMES)
def test_a_bundled_workflow_fits_the_schema_of_editors(name: str) -> None:
    jsonschema.validate(yaml.safe_load(bundled()[name].read_text()), workflow_schema())


def test_the_schema_is_sound_and_knows_every_key() -> None:
    schema = workflow_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    for model in NODE_MODELS.values():
        assert set(schema["$defs"][model.__name__]["properties"]) >= set(model.model_fields)


@pytest.mark.parametrize(
    ("document", "sound"),
    [
        ({"workflow_id": "w", "nodes": {"a": {"handler": "echo", "depends_on": "b", "when": True}}}, True),
        (
            {"workflow_id": "w", "nodes": {"a": {"type": "conditional", "branches": {"true": "b", "false": ["c"]}}}},
            True,
        ),
        ({"workflow_id": "w", "version": "1.0", "nodes": {"a": {"type": "start"}}, "inputs": None}, True),
        ({"workflow_id": "w", "nodes": {"a": {"handlr": "echo"}}}, False),
        ({"workflow_id": "w", "nodes": {"a": {"type": "end", "next": "b"}}}, False),
        ({"workflow_id": "w", "nodes": {"a": {"type": "nothing"}}}, False),
        ({"workflow_id": "w", "nods": {}}, False),
    ],
)
def test_the_schema_tells_forms_apart(document: object, sound: bool) -> None:
    assert jsonschema.Draft202012Validator(workflow_schema()).is_valid(document) is sound


def test_an_unknown_name_brings_the_near_miss() -> None:
    with pytest.raises(WorkflowUnknown) as caught:
        find("ehco_test")
    assert caught.value.remedy == "Did you mean `echo_test`?"


def test_a_file_is_found_by_its_path_unless_the_name_came_over_the_network(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(bundled()["echo_test"].read_text().replace("echo_test", "mine"))
    assert find(str(file)).workflow_id == "mine"
    with pytest.raises(WorkflowUnknown):
        find(str(file), paths=False)
    with pytest.raises(WorkflowUnknown):
        find(str(tmp_path / "none.yaml"))


def test_a_folder_adds_workflows_and_wins_over_the_shelf(tmp_path: Path) -> None:
    (tmp_path / "echo_test.yml").write_text(bundled()["echo_test"].read_text().replace("Echo test", "Ours"))
    assert find("echo_test", [tmp_path]).name == "Ours"
    assert set(available([tmp_path, tmp_path / "missing"])) == set(NAMES)


def test_no_more_of_a_file_is_read_than_a_workflow_may_hold(tmp_path: Path) -> None:
    file = tmp_path / "large.yaml"
    file.write_text("# " + "x" * 2_000_000)
    with pytest.raises(WorkflowInvalid):
        find(str(file))
