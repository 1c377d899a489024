"""Long videos in pieces: nothing lost between them, each playable and in time with its sound."""

from __future__ import annotations

from pathlib import Path

import pytest

from hrtrack.errors import SinkError, UsageError
from hrtrack.poses import Poses
from hrtrack.skeleton import COCO17
from hrtrack.tracker.outputs.base import parse_save
from hrtrack.tracker.outputs.open import open_sinks
from hrtrack.tracker.outputs.pictures.segments import Limit, parse_limit, piece
from hrtrack.tracker.video.open import open_source

from ..clips import make_clip
from ..files import contents


def cut(folder: Path, limit: Limit, *, overwrite: bool = False) -> None:
    clip = make_clip(folder / "clip.mp4", 70, fps=20, audio="aac")
    with (
        open_source(str(clip)) as source,
        open_sinks(
            [parse_save(f"{folder}/o.mp4")],
            source=source,
            skeleton=COCO17,
            segment=limit,
            overwrite=overwrite,
        ) as sinks,
    ):
        for frame in source:
            empty = Poses.empty(frame.index, frame.time, 17)
            sinks.write(frame, empty, lambda image=frame.image: image)  # type: ignore[misc]


def test_pieces_by_time(tmp_path: Path) -> None:
    cut(tmp_path, Limit(seconds=1.0))
    pieces = sorted(tmp_path.glob("o_*.mp4"))
    assert [path.name for path in pieces] == [f"o_00{i}.mp4" for i in range(4)]
    found = [contents(path) for path in pieces]
    assert [numbers for numbers, _, _ in found] == [
        list(range(begin, min(begin + 20, 70))) for begin in (0, 20, 40, 60)
    ]
    for numbers, times, sound in found:
        assert times == pytest.approx([i / 20 for i in range(len(numbers))], abs=1e-3)
        assert sound == pytest.approx(len(numbers) / 20, abs=0.15)
    assert not list(tmp_path.glob("*.part*"))


def test_pieces_by_size(tmp_path: Path) -> None:
    cut(tmp_path, Limit(bytes=20_000))
    pieces = sorted(tmp_path.glob("o_*.mp4"))
    assert len(pieces) > 1
    numbers = [number for path in pieces for number in contents(path)[0]]
    assert numbers == list(range(70))


def test_pieces_that_exist_are_kept(tmp_path: Path) -> None:
    piece(tmp_path / "o.mp4", 2).touch()
    with pytest.raises(SinkError, match=r"o_002\.mp4 exists already"):
        cut(tmp_path, Limit(seconds=1.0))
    cut(tmp_path, Limit(seconds=1.0), overwrite=True)
    assert contents(tmp_path / "o_002.mp4")[0] == list(range(40, 60))
    other = tmp_path / "o_20240101.mp4"
    other.touch()
    cut(tmp_path, Limit(seconds=2.0), overwrite=True)  # whose end must not seem to go on
    left = [path.name for path in sorted(tmp_path.glob("o_*"))]
    assert left == ["o_000.mp4", "o_001.mp4", "o_20240101.mp4"]


def test_limits() -> None:
    assert parse_limit("90s") == Limit(seconds=90)
    assert parse_limit("10m") == Limit(seconds=600)
    assert parse_limit("1.5h") == Limit(seconds=5400)
    assert parse_limit("500MB") == Limit(bytes=500_000_000)
    for wrong in ("", "10", "m", "0m", "-3m", "10x"):
        with pytest.raises(UsageError, match="--segment"):
            parse_limit(wrong)
