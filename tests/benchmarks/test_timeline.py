"""The picture of one frame's way through the threads."""

from __future__ import annotations

import itertools
import json
import threading
import time
from pathlib import Path

import pytest

from benchmarks.timeline import of_frame, paint, read
from hrtrack.errors import UsageError
from hrtrack.pictures import decode_picture
from hrtrack.tracker.bench import chrome_trace
from hrtrack.tracker.stopwatch import Stopwatch


def trace(path: Path, frames: int) -> Path:
    """A trace of stages that run in the order of a run, on three threads."""
    watch = Stopwatch(traced=True)

    def on(name: str, *stages: str) -> None:
        def work() -> None:
            for stage in stages:
                with watch.stage(stage):
                    time.sleep(0.002)

        thread = threading.Thread(target=work, name=name)
        thread.start()
        thread.join()

    for number in range(frames):
        on("decode", "decode")
        people = ("crop", "infer") if number != 1 else ()
        for stage in ("detect", *people, "associate"):
            with watch.stage(stage):
                time.sleep(0.002)
        on("encode", "draw", "encode")
    path.write_text(json.dumps(chrome_trace(watch)), encoding="utf-8")
    return path


def test_a_frame_s_stages_are_its_own_and_in_order(tmp_path: Path) -> None:
    events = read(trace(tmp_path / "t.json", 3))
    whole = ["decode", "detect", "crop", "infer", "associate", "draw", "encode"]
    assert [one.stage for one in of_frame(events, 0)] == whole
    assert [one.stage for one in of_frame(events, 1)] == [*whole[:2], *whole[4:]]
    last = of_frame(events, 2)
    assert [one.stage for one in last] == whole
    assert last[-1] == events[-1]
    assert all(a.end <= b.start + 1e-3 for a, b in itertools.pairwise(last))


def test_the_picture_is_light(tmp_path: Path) -> None:
    out = tmp_path / "t.png"
    paint(read(trace(tmp_path / "t.json", 3)), 1, out)
    assert out.stat().st_size < 100_000
    assert decode_picture(out.read_bytes()).shape[1] > 800


def test_what_is_no_trace_and_a_frame_that_is_not_there(tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text("[]", encoding="utf-8")
    with pytest.raises(UsageError, match="no trace"):
        read(other)
    with pytest.raises(UsageError, match="2 whole frames"):
        of_frame(read(trace(tmp_path / "t.json", 2)), 2)
