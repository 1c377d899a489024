"""One turn of hrtrack on a clip: the loop in memory, each part alone, and file to file.

    python benchmarks/hrtrack_turn.py CLIP FRAMES MAX_PEOPLE

Run by `benchmarks.peers`. It measures whichever hrtrack Python imports, so that a `PYTHONPATH`
measures another checkout, and therefore uses only what has been there for long. Prints one line of
JSON; times are milliseconds of processor time a frame, of all threads.
"""

import itertools
import json
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hrtrack.cli.outputs import picture_maker
from hrtrack.poses import Poses
from hrtrack.tracker.api import Tracker
from hrtrack.tracker.outputs.base import Target
from hrtrack.tracker.outputs.open import Sinks, open_sinks
from hrtrack.tracker.outputs.pictures.draw import DrawOptions
from hrtrack.tracker.video.open import Source, open_source

WARM_UP = 10


def timed(work: Callable[[], Any]) -> tuple[float, float]:
    """Seconds that pass, and seconds of processor time."""
    start, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - start, time.process_time() - cpu


def main(clip: str, count: int, most: int) -> None:
    layers = DrawOptions({"skeleton", "boxes", "ids"})
    with Tracker(max_people=most) as tracker, tempfile.TemporaryDirectory() as folder:
        skeleton = tracker.skeleton
        with open_source(clip) as source:
            frames = list(itertools.islice(source, count))
        warm = tracker.pipeline()
        for lap, frame in enumerate(frames[:WARM_UP]):
            warm.step(replace(frame, time=lap / 30))

        with closing(tracker.track(clip)) as run:  # networks for files are compiled here
            for _ in itertools.islice(run, WARM_UP):
                pass

        def video(source: Source, name: str) -> Sinks:
            target = Target("video", str(Path(folder) / name))
            return open_sinks([target], source=source, skeleton=skeleton, overwrite=True)

        pipeline, poses = tracker.pipeline(), list[Poses]()
        picture = picture_maker(skeleton, layers, pipeline)

        def decode(part: slice) -> None:
            with open_source(clip) as source:
                for _ in itertools.islice(source, len(frames[part])):
                    pass

        def loop(part: slice) -> None:
            poses.extend(map(pipeline.step, frames[part]))

        def draw(part: slice) -> None:
            for frame, people in zip(frames[part], poses[part], strict=True):
                picture(frame, people)()

        def encode(part: slice) -> None:
            with open_source(clip) as source, video(source, "alone.mp4") as sinks:
                for frame, people in zip(frames[part], poses[part], strict=True):
                    sinks.write(frame, people, partial(np.asarray, frame.image))

        def whole() -> None:
            run = tracker.track(clip)
            with video(described, "whole.mp4") as sinks, closing(run):
                for frame, people in itertools.islice(run, count):
                    sinks.write(frame, people, picture(frame, people))

        def parts(part: slice) -> None:
            for name, work in (("loop", loop), ("decode", decode), ("draw", draw),
                               ("encode", encode)):  # fmt: skip
                seconds, cpu = timed(partial(work, part))
                spent[name] += cpu
                if name == "loop":
                    lasted.append(seconds)

        seen, spent, lasted = len(frames), defaultdict[str, float](float), list[float]()
        # Half before the whole and half after it, for the machine's speed drifts.
        parts(slice(0, seen // 2))
        with open_source(clip) as described:
            seconds, cpu = timed(whole)
        parts(slice(seen // 2, seen))
        found = {
            "frames": seen,
            "people": sum(map(len, poses)) / seen,
            "fps": seen / sum(lasted),
            "cpu_ms": spent["loop"] / seen * 1e3,
            **{f"{name}_ms": spent[name] / seen * 1e3 for name in ("decode", "draw", "encode")},
            "file_fps": seen / seconds,
            "file_cpu_ms": cpu / seen * 1e3,
            "bytes": (Path(folder) / "whole.mp4").stat().st_size,
        }
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
