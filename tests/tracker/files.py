"""What the tests of the outputs write, and how they read a video back."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np

from hrtrack.poses import Action, Poses
from hrtrack.skeleton import COCO17
from hrtrack.tracker.outputs.base import FORMATS, parse_save
from hrtrack.tracker.outputs.open import open_sinks
from hrtrack.tracker.stopwatch import Stopwatch
from hrtrack.tracker.video.open import open_source

from .clips import number_of, rgb


def save_to(folder: Path, form: str, stem: str = "out") -> str:
    """What ``--save`` takes for a file, or a folder, of a format."""
    return f"{form}:{folder / stem}{''.join(FORMATS[form].suffixes[:1])}"


def people(frame: int, time: float, count: int, *, actions: bool = True) -> Poses:
    """Random people with every kind of action a tagger gives."""
    random = np.random.default_rng(frame)
    named = (Action("jump_rope", 0.75), None, Action("unknown", 0.25))
    return Poses(
        frame,
        time,
        (random.random((count, 4)) * 300).astype(np.float32),
        random.random(count).astype(np.float32),
        (random.random((count, 17, 2)) * 300).astype(np.float32),
        random.random((count, 17)).astype(np.float32),
        np.arange(count, dtype=np.int64) + frame,
        named[:count] if actions else None,
    )


def copy(source: Path, out: Path, *, start: float | None = None, end: float | None = None,
         stop_at: int | None = None) -> Stopwatch:  # fmt: skip
    """Runs a clip straight into a video, unannotated."""
    watch = Stopwatch()
    with (
        open_source(str(source), start=start, end=end) as frames,
        open_sinks(
            [parse_save(str(out))], source=frames, skeleton=COCO17, stopwatch=watch
        ) as sinks,
    ):
        for frame in frames:
            if stop_at is not None and frame.index >= stop_at:
                raise KeyboardInterrupt
            sinks.write(
                frame,
                Poses.empty(frame.index, frame.time, 17),
                lambda image=frame.image: image,  # type: ignore[misc]
            )
    return watch


def contents(path: Path) -> tuple[list[int], list[float], float]:
    """Frame numbers, their times, and the seconds of sound."""
    with av.open(str(path)) as container:
        frames = [(number_of(rgb(f)), f.time) for f in container.decode(video=0)]
    with av.open(str(path)) as container:
        sound = 0.0
        if container.streams.audio:
            sound = sum(f.samples for f in container.decode(audio=0)) / 16000
    return [number for number, _ in frames], [t or 0.0 for _, t in frames], sound
