"""How an item is drawn, from its document alone."""

from __future__ import annotations

from typing import Any

import pytest

from dagmaster.serving.rendering import RenderingInvalid, rendering

STATISTICS = {"minimum": 0.0, "maximum": 100.0, "mean": 50.0, "stddev": 10.0}


def item(count: int = 1, data_type: str = "float32", **default: Any) -> dict[str, Any]:
    bands = [{"data_type": data_type, "statistics": STATISTICS} for _ in range(count)]
    return {"properties": {"renders": {"default": default}}, "assets": {"data": {"raster:bands": bands}}}


def test_default_of_the_item_is_used() -> None:
    found = rendering(item(bidx=[1], rescale=[[2.0, 5.0]], colormap_name="terrain"))
    assert found == [("bidx", "1"), ("rescale", "2.0,5.0"), ("colormap_name", "terrain")]


def test_bytes_in_three_bands_are_drawn_as_they_are() -> None:
    assert rendering(item(3, "uint8", bidx=[1, 2, 3])) == [("bidx", "1"), ("bidx", "2"), ("bidx", "3")]


def test_caller_says_otherwise() -> None:
    found = rendering(item(4, bidx=[1, 2, 3]), bidx=[4], rescale=["0,9"], colormap_name="viridis")
    assert found == [("bidx", "4"), ("rescale", "0.0,9.0"), ("colormap_name", "viridis")]


def test_other_bands_are_stretched_by_their_statistics() -> None:
    found = rendering(item(4, bidx=[1, 2, 3], rescale=[[1, 2]] * 3), bidx=[4])
    assert found == [("bidx", "4"), ("rescale", "30.0,70.0")]


def test_raster_of_one_value_is_not_divided_by_nothing() -> None:
    low, high = dict(rendering(item(bidx=[1], rescale=[[7, 7]])))["rescale"].split(",")
    assert float(low) < float(high)


@pytest.mark.parametrize(
    "asked",
    [
        {"bidx": [0]}, {"bidx": [5]}, {"bidx": [1, 2]}, {"rescale": ["1"]}, {"rescale": ["2,1"]}, {"rescale": ["nan,1"]},
        {"rescale": ["-1e308,1e308"]}, {"rescale": ["0,1", "0,1"]}, {"colormap_name": "a/b"}, {"bidx": [1, 2, 3], "colormap_name": "viridis"},
    ],
)  # fmt: skip
def test_what_cannot_be_drawn_is_refused(asked: dict[str, Any]) -> None:
    with pytest.raises(RenderingInvalid):
        rendering(item(4, bidx=[1]), **asked)
