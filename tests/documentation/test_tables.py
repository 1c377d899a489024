"""What is added to a table of the code is in the documentation's table, too."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hrtrack.tracker.outputs.base import FORMATS, RESULTS
from hrtrack.tracker.outputs.pictures.draw import LAYERS

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("results.md", tuple(FORMATS)),
        ("python.md", RESULTS),
        ("skeletons.md", LAYERS),
    ],
)
def test_every_name_stands_in_a_table(page: str, names: tuple[str, ...]) -> None:
    rows = [line for line in (DOCS / page).read_text().splitlines() if line.startswith("|")]
    for name in names:
        words = re.compile(rf"(?<![\w-]){re.escape(name)}(?![\w-])", re.IGNORECASE)
        assert any(words.search(row) for row in rows), f"docs/{page} has no row with {name}"
