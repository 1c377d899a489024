"""Whatever stands after --source: odd names are read, impossible ones refused in one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from hrtrack.errors import SourceError, UsageError
from hrtrack.tracker.outputs.pictures.image import write_image
from hrtrack.tracker.video.open import expand_sources, open_source

from ..clips import make_clip, number_of, stamped
from ..files import contents, copy


def test_a_picture_may_have_a_percent_sign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_image(Path("100%.png"), stamped(7))
    (name,) = expand_sources(".")
    with open_source(name) as source:
        assert source.kind == "image"
        assert [number_of(frame.image) for frame in source] == [7]


def test_a_clip_may_have_a_colon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FFmpeg would look for a protocol named 12."""
    monkeypatch.chdir(tmp_path)
    make_clip(Path("clip.mp4"), 20, audio="aac").rename("12:30.mp4")
    copy(Path("12:30.mp4"), tmp_path / "out.mp4")
    numbers, _, sound = contents(Path("out.mp4"))
    assert numbers == list(range(20))
    assert sound > 0.5


@pytest.mark.parametrize("name", ["", " "])
def test_an_empty_name_is_not_the_current_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_clip(Path("clip.mp4"), 1)
    for take in (expand_sources, open_source):
        with pytest.raises(UsageError, match="the source is empty"):
            take(name)


@pytest.mark.parametrize("suffix", [".mp4", ".png", "/clip.mp4", "*.mp4"])
def test_a_name_that_is_too_long_is_one_line(suffix: str) -> None:
    name = "x" * 300 + suffix
    with pytest.raises(SourceError, match=r"too long|no file matches"):
        open_source(*expand_sources(name))


def test_closed_standard_input_is_one_line() -> None:
    script = (
        "import os; os.close(0)\n"
        "from hrtrack.errors import SourceError\n"
        "from hrtrack.tracker.video.open import open_source\n"
        "try: open_source('-')\n"
        "except SourceError as error: print(error)"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert run.stdout == "standard input cannot be read: bad file descriptor\n"


def test_a_picture_of_floats_is_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "floats.tif"
    cv2.imwrite(str(path), np.random.default_rng(0).random((20, 20, 3)).astype(np.float32))
    with pytest.raises(SourceError, match="damaged or not a picture"):
        open_source(str(path))
    assert not capfd.readouterr().err
