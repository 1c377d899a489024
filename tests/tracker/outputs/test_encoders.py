"""Which encoder a video is written with."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import av
import numpy as np
import pytest

from hrtrack.errors import BackendError
from hrtrack.poses import Poses
from hrtrack.skeleton import COCO17
from hrtrack.tracker.outputs.base import parse_save
from hrtrack.tracker.outputs.open import open_sinks
from hrtrack.tracker.outputs.pictures import video
from hrtrack.tracker.outputs.pictures.encoders import (
    AUTO,
    ENCODERS,
    H264,
    HARDWARE,
    fault_of,
    kind_of,
    pick,
)
from hrtrack.tracker.video.open import open_source

from ..clips import make_clip
from ..files import contents, copy

SIZE = (640, 360)


def test_auto_takes_hardware_that_answers_and_else_the_cpu() -> None:
    answering = [name for name in HARDWARE if fault_of(name, *SIZE) is None]
    assert pick(AUTO, SIZE) == [*answering, H264.codec][0]


def test_the_cpu_s_encoder_is_there() -> None:
    assert pick(H264.codec, SIZE) == H264.codec
    assert set(ENCODERS) == {AUTO, H264.codec, *HARDWARE}


@pytest.mark.parametrize("name", HARDWARE)
def test_a_named_encoder_works_or_says_in_one_line_why_not(name: str) -> None:
    if fault_of(name, *SIZE) is None:
        assert pick(name, SIZE) == name
        return
    with pytest.raises(BackendError, match=f"--encoder {name}: .*use --encoder libx264$") as raised:
        pick(name, SIZE)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", HARDWARE)
def test_an_encoder_of_pyav_takes_the_pixels_that_it_is_given(name: str) -> None:
    if name not in av.codec.codecs_available:
        pytest.skip("PyAV was built without it")
    formats = av.Codec(name, "w").video_formats or []
    assert HARDWARE[name].pixels in [one.name for one in formats]


@pytest.mark.skipif(os.cpu_count() == 1, reason="one core has no threads to divide a picture among")
@pytest.mark.parametrize(("kind", "slices"), [("file", 0), ("live", 1)])
def test_a_picture_is_cut_into_slices_only_where_somebody_waits_for_it(
    tmp_path: Path, kind: Literal["file", "live"], slices: int
) -> None:
    size = (320, 256)
    with open_source(str(make_clip(tmp_path / "clip.mp4", 12, size=size))) as source:
        frames = list(source)
        source.kind = kind
        target = parse_save(f"{tmp_path}/out.mp4")
        with open_sinks([target], source=source, skeleton=COCO17) as sinks:
            for frame in frames:
                nobody = Poses.empty(frame.index, frame.time, 17)
                sinks.write(frame, nobody, partial(np.asarray, frame.image))
    # libx264 writes its settings into the first picture.
    assert f"sliced_threads={slices}".encode() in (tmp_path / "out.mp4").read_bytes()
    assert contents(tmp_path / "out.mp4")[0] == list(range(12))


def test_formats_without_h264_keep_their_own_encoder() -> None:
    assert kind_of("webm", H264.codec).codec == "libvpx-vp9"
    assert kind_of("gif", "h264_nvenc").codec == "gif"
    assert kind_of("mp4", "h264_nvenc").codec == "h264_nvenc"
    assert kind_of("matroska", H264.codec) is H264


def test_what_an_encoder_may_still_read_is_not_written_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = make_clip(tmp_path / "clip.mp4", 9)
    copy(clip, tmp_path / "reused.mp4")
    frozen = (tmp_path / "reused.mp4").read_bytes()
    kept = replace(H264, keeps=True)
    monkeypatch.setattr(video, "kind_of", lambda form, encoder: kept)
    copy(clip, tmp_path / "kept.mp4")
    assert (tmp_path / "kept.mp4").read_bytes() == frozen
    assert contents(tmp_path / "kept.mp4")[0] == list(range(9))
