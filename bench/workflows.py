"""The workloads as definitions: chains, and a fan-out with its fan-in."""

from __future__ import annotations

from dagmaster.dag.definition import Definition, load


def chain(name: str, steps: int, handler: str) -> Definition:
    """So many steps, one after the other."""
    nodes = "".join(
        f"  n{number}: {{handler: {handler}, next: {f'n{number + 1}' if number < steps - 1 else 'end'}}}\n"
        for number in range(steps)
    )
    head = f"workflow_id: {name}\nname: {name}\nversion: 1\nnodes:\n  start: {{type: start, next: n0}}\n"
    return load(f"{head}{nodes}  end: {{type: end}}\n", f"{name}.yaml")


def fan(handler: str) -> Definition:
    """A child for each item, and their number."""
    return load(
        f"""
workflow_id: bench_fan
name: bench_fan
version: 1
inputs: {{items: {{type: array, required: true}}}}
nodes:
  start: {{type: start, next: split}}
  split: {{type: fan_out, source: "{{{{ inputs.items }}}}", task: {{handler: {handler}}}, next: merge}}
  merge: {{type: fan_in, aggregation: count, next: end}}
  end: {{type: end}}
""",
        "bench_fan.yaml",
    )
