"""The table beside the peers."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from benchmarks.peers import AFTER, MEDIAPIPE, PLAIN, Loops, Row, efficiency, middle, table
from hrtrack.errors import HrtrackError

from ..clips import moving_portrait

TURN = {
    "frames": 10, "people": 1.0, "fps": 50.0, "cpu_ms": 20.0, "decode_ms": 4.0, "draw_ms": 1.0,
    "encode_ms": 15.0, "file_fps": 20.0, "file_cpu_ms": 45.0,
}  # fmt: skip


def test_efficiency_is_one_where_the_cores_do_nothing_else() -> None:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    turn = {**TURN, "file_fps": (cores or 1) / 0.040}
    assert efficiency(turn) == pytest.approx(1.0)
    assert efficiency({**turn, "draw_ms": 21.0}) == pytest.approx(1.5)


def test_the_table_has_medians_and_leaves_out_what_a_loop_has_not() -> None:
    turns = [{**TURN, "fps": fps} for fps in (10.0, 90.0, 30.0)]
    assert middle(turns)["fps"] == 30.0
    rows = [Row("clip", 1, MEDIAPIPE, []), Row("clip", 1, AFTER, [])]
    other = {"people": 1.0, "fps": 25.0, "cpu_ms": 30.0}
    lines = table(rows, [middle([other]), middle(turns)]).splitlines()
    assert lines[2].startswith("| clip | 1 | MediaPipe Pose full | 1.00 | 25.0 | 30.0 |  |")
    assert "| 30.0 | 20.0 | 20.0 | 45.0 | 4.0 | 1.00 | 15.0 |" in lines[3]


def test_only_loops_that_can_follow_so_many_have_a_row() -> None:
    loops = Loops("python", None, Path("d.onnx"), Path("p.onnx"))
    assert [row.name for row in loops.rows("a.mp4", "a", 1, 9)] == [MEDIAPIPE, PLAIN, AFTER]
    assert [row.name for row in loops.rows("a.mp4", "a", 5, 9)] == [PLAIN, AFTER]


def test_a_loop_that_fails_is_named_in_one_line() -> None:
    row = Row("clip", 1, PLAIN, [sys.executable, "-c", "raise SystemExit('no such model')"])
    with pytest.raises(HrtrackError, match="plain loop on clip failed: no such model"):
        row.turn()


@pytest.mark.slow
def test_hrtrack_is_measured_whole(tmp_path: Path) -> None:
    clip = moving_portrait(tmp_path / "clip.mp4", 12)
    (row,) = Loops(None, None, None, None).rows(str(clip), "clip", 1, 12)
    found = middle([row.turn()])
    assert found["frames"] == 12
    assert found["people"] > 0.5
    assert 0 < found["of_the_cores"] < 2
    assert found["bytes"] > 1000
