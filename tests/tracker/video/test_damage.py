"""Damaged inputs: every one ends in frames, in a clear line, or in both."""

from __future__ import annotations

from pathlib import Path

import pytest

from ..clips import make_clip
from .damage import run_all, table


@pytest.mark.slow
def test_damaged_inputs_end_clearly(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.avi", 60, size=(160, 120), codec="mpeg4")
    found = run_all(clip, 40, tmp_path)
    outcomes: dict[str, int] = {}
    for (_, _, outcome), count in found.items():
        outcomes[outcome] = outcomes.get(outcome, 0) + count
    assert sum(outcomes.values()) == 40
    assert "traceback" not in outcomes, table(found)
    assert "hang" not in outcomes, table(found)
    assert outcomes.get("fewer, no word", 0) <= 2, table(found)
    assert outcomes["all frames"] > 3
    assert outcomes["refused"] > 3
