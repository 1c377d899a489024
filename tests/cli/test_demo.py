"""`hrtrack demo`: what somebody sees who has just installed the package."""

from __future__ import annotations

from pathlib import Path

import pytest

from hrtrack.cli import main
from hrtrack.cli.demo import ANNOTATED, CLIP, FPS, VIEWS

from ..clips import count_frames


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    return int(stop.value.code or 0)


@pytest.mark.slow
def test_the_demo_finds_its_two_people_and_leaves_the_clip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("demo") == 0
    told = capsys.readouterr().err
    frames = round(VIEWS[-1][0] * FPS)
    assert count_frames(CLIP) == count_frames(ANNOTATED) == frames
    assert f"{frames} frames, 2 identities, 2.0 people per frame" in told
    assert f"open {ANNOTATED}" in told.splitlines()[-1]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([CLIP.name, ANNOTATED.name])

    before = CLIP.stat().st_mtime_ns
    assert run("demo") == 1
    assert "exists already; pass --overwrite" in capsys.readouterr().err
    assert CLIP.stat().st_mtime_ns == before
