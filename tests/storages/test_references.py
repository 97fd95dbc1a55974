"""What people write to name an object, and what is made of it."""

from __future__ import annotations

import pytest

from dagmaster.errors import PathRefused
from dagmaster.storages.references import Reference, parse_reference


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("uploads/a.tif", Reference("uploads", "a.tif")),
        ("uploads/a b/ü.tif", Reference("uploads", "a b/ü.tif")),
        ("uploads/12:30.tif", Reference("uploads", "12:30.tif")),
    ],
)
def test_reference_names_container_and_path(text: str, wanted: Reference) -> None:
    assert parse_reference(text) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "", "a.tif", "uploads/", "/uploads/a.tif", "//uploads/a", "/etc/passwd", "https://host/a.tif", "HTTP://host/a", "s3://bucket/a",
        "file:///etc/passwd", "/vsicurl/https://host/a.tif", "/vsizip/a.zip/a.tif", "C:\\a.tif",
    ],
)  # fmt: skip
def test_address_path_of_the_machine_or_nonsense_is_refused(text: str) -> None:
    with pytest.raises(PathRefused) as refused:
        parse_reference(text)
    assert "container" in refused.value.remedy
