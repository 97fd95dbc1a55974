"""What a fan-in makes of its children's outputs; order is the order of the items."""

from __future__ import annotations

from typing import Any

Indexed = list[tuple[int, Any]]


def aggregate(mode: str, results: Indexed, errors: Indexed) -> dict[str, Any]:
    """The fan-in's output. `errors` appear only where the failure policy let children fail."""
    outputs = [output for _, output in results]
    gathered = _gather(mode, outputs)
    if errors:
        gathered["errors"] = [{"index": index, "error": error} for index, error in errors]
    return gathered


def _gather(mode: str, outputs: list[Any]) -> dict[str, Any]:
    match mode:
        case "collect":
            return {"results": outputs, "count": len(outputs)}
        case "concat":
            return {"results": [item for output in outputs for item in _list_of(output)], "count": len(outputs)}
        case "sum":
            return {"total": sum(_number_of(output) for output in outputs), "count": len(outputs)}
        case "min" | "max":
            numbers = [_number_of(output) for output in outputs]
            pick = min if mode == "min" else max
            return {"result": pick(numbers) if numbers else None, "count": len(outputs)}
        case "first":
            return {"result": outputs[0] if outputs else None, "count": len(outputs)}
        case "last":
            return {"result": outputs[-1] if outputs else None, "count": len(outputs)}
        case "count":
            return {"count": len(outputs)}
    raise ValueError(f"there is no aggregation {mode}")


def _list_of(output: Any) -> list[Any]:
    if isinstance(output, dict) and len(lists := [value for value in output.values() if isinstance(value, list)]) == 1:
        return list(lists[0])
    if not isinstance(output, list):
        raise ValueError("concat needs lists, or objects with exactly one list")
    return output


def _number_of(output: Any) -> float:
    if isinstance(output, dict):
        numbers = [value for value in output.values() if isinstance(value, int | float) and not isinstance(value, bool)]
        if len(numbers) == 1:
            return numbers[0]
    if isinstance(output, bool) or not isinstance(output, int | float):
        raise ValueError("a number is needed, or an object with exactly one number")
    return output
