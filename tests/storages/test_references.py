"""What people write to name a file, and what is made of it."""

from __future__ import annotations

import pytest

from dagmaster.errors import PathRefused
from dagmaster.storages.references import Reference, parse_reference


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("uploads/a.tif", Reference("object", "uploads", "a.tif")),
        ("uploads/a b/ü.tif", Reference("object", "uploads", "a b/ü.tif")),
        ("uploads/12:30.tif", Reference("object", "uploads", "12:30.tif")),
        ("/srv/data/a.tif", Reference("file", "", "/srv/data/a.tif")),
    ],
)
def test_reference_is_an_object_or_a_file(text: str, wanted: Reference) -> None:
    assert parse_reference(text) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "", "a.tif", "uploads/", "a\0/b", "a/b\n", "https://host/a.tif", "HTTP://host/a", "s3://bucket/a", "file:/etc/passwd",
        "/vsicurl/https://host/a.tif", "/VSIZIP/a.zip/a.tif", "C:\\a.tif", "x" * 5000,
    ],
)  # fmt: skip
def test_reference_elsewhere_or_without_sense_is_refused(text: str) -> None:
    with pytest.raises(PathRefused) as refused:
        parse_reference(text)
    assert refused.value.remedy
