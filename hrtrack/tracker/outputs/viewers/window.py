"""The live window: the annotated picture, what the run is doing, and the keys that steer it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from ....errors import SinkError
from ..base import Run, Target
from ..pictures.draw import DrawOptions
from ..pictures.image import write_image
from ..pictures.labels import draw_overlay
from ..pictures.video import Video

if TYPE_CHECKING:
    from ....poses import Poses
    from ...video.frame import Frame
    from ..base import Picture

LARGEST = (1280, 800)
SCORE_STEP = 0.05
NOTICE_SECONDS = 3.0
ESCAPE = 27
HELP = [
    "q Esc  quit",
    "space  pause",
    "s  save a picture",
    "r  start or stop recording",
    "k b i  skeleton, boxes, numbers",
    "c t n  scores, trails, names of joints",
    "f  blur faces",
    "+ -  score from which joints are drawn",
    "h  this help",
]
TOGGLES = {
    ord("k"): "skeleton",
    ord("b"): "boxes",
    ord("i"): "ids",
    ord("c"): "scores",
    ord("t"): "trails",
    ord("n"): "names",
    ord("f"): "blur-faces",
}
PROBE = "import cv2; cv2.namedWindow('hrtrack'); cv2.waitKey(1)"


class Window:
    """Shows every frame. ``layers`` is shared with what draws them, so keys take effect at once.

    Pictures and recordings go to ``folder``, named after the source. Neither carries the
    overlay.
    """

    def __init__(
        self, run: Run, layers: DrawOptions, made_by: str, folder: Path, stride: int = 1
    ) -> None:
        check_display()
        self._run, self._layers, self._made_by, self._stride = run, layers, made_by, stride
        stem = re.sub(r"[^\w-]+", "_", Path(run.source.name).stem).strip("_-") or "hrtrack"
        self._path = folder / stem
        self._title = f"hrtrack - {run.source.name}"
        self._recording: Video | None = None
        self._record_path = ""
        self._notice, self._notice_until = "", 0.0
        self._shown: deque[float] = deque(maxlen=30)
        # OpenCV's Qt misses the fonts that it no longer brings, at every window.
        os.environ.setdefault("QT_LOGGING_RULES", "default.warning=false")
        flags = cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL
        cv2.namedWindow(self._title, flags)
        width, height = run.source.size
        scale = min(1.0, LARGEST[0] / width, LARGEST[1] / height)
        cv2.resizeWindow(self._title, max(1, round(width * scale)), max(1, round(height * scale)))

    def write(self, frame: Frame, poses: Poses, picture: Picture) -> bool:
        """Shows one frame; False when the window was closed or q or Esc pressed."""
        with self._run.stopwatch.stage("show"):
            image = picture()
            if self._recording is not None:
                self._recording.write(frame, poses, picture)
            canvas = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
            self._shown.append(time.monotonic())
            draw_overlay(canvas, self._lines(frame, poses))
            cv2.imshow(self._title, canvas)
            return self._keys(frame, image)

    def wants(self) -> bool:
        """Whether it would show a picture at once: always."""
        return True

    def close(self, *, complete: bool) -> None:
        """Ends a recording that is under way and takes the window away."""
        try:
            if self._recording is not None:
                self._recording.close(complete=False)
        finally:
            if self._open():
                cv2.destroyWindow(self._title)
                cv2.waitKey(1)

    def _keys(self, frame: Frame, image: NDArray[np.uint8]) -> bool:
        paused = False
        while True:
            # Reading keys is also what gives the window time to draw itself.
            key = cv2.waitKey(30 if paused else 1)
            if not self._open():
                return False
            if key in (ESCAPE, ord("q")):
                return False
            if key == ord(" "):
                paused = not paused
            elif key == ord("s"):
                self._snapshot(frame, image)
            elif key == ord("r"):
                self._record(frame)
            elif key in TOGGLES:
                self._layers.layers ^= {TOGGLES[key]}
            elif key == ord("h"):
                self._layers.help = not self._layers.help
            elif key in (ord("+"), ord("="), ord("-")):
                step = -SCORE_STEP if key == ord("-") else SCORE_STEP
                score = float(np.clip(self._layers.min_score + step, 0, 1))
                self._layers.min_score = round(score, 2)
                self._say(f"joints from score {score:.2f}")
            if not paused:
                return True

    def _lines(self, frame: Frame, poses: Poses) -> list[str]:
        span = self._shown[-1] - self._shown[0]
        parts = [f"{(len(self._shown) - 1) / span:.1f} FPS"] if span > 0 else []
        if frame.arrived is not None:
            age = (time.monotonic() - frame.arrived) * 1000
            parts += [f"{age:.0f} ms behind", f"{frame.dropped} dropped"]
        parts += [f"{len(poses)} people", self._made_by]
        lines = ["  ".join(part for part in parts if part)]
        if self._recording is not None:
            lines.append(f"REC {self._record_path}")
        if time.monotonic() < self._notice_until:
            lines.append(self._notice)
        return lines + (HELP if self._layers.help else [])

    def _snapshot(self, frame: Frame, image: NDArray[np.uint8]) -> None:
        path = f"{self._path}_{frame.index:06d}.png"
        try:
            write_image(path, image)
            self._say(f"saved {path}")
        except SinkError as error:
            self._say(str(error))

    def _record(self, frame: Frame) -> None:
        if self._recording is not None:
            recording, self._recording = self._recording, None
            recording.close(complete=False)
            self._say(f"saved {self._record_path}")
            return
        path = f"{self._path}_{frame.index:06d}.mp4"
        try:
            origin = Fraction(frame.time)
            self._recording = Video(Target("video", path), self._run, self._stride, origin)
            self._record_path = path
        except SinkError as error:
            self._say(str(error))

    def _say(self, text: str) -> None:
        self._notice, self._notice_until = text, time.monotonic() + NOTICE_SECONDS

    def _open(self) -> bool:
        try:
            return cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) >= 1
        except cv2.error:
            return False


def window(
    layers: DrawOptions, made_by: str = "", folder: Path = Path(), stride: int = 1
) -> Callable[[Run], Window]:
    """What `open_sinks` makes the window with; ``made_by`` is shown in it (the back end)."""

    def make(run: Run) -> Window:
        return Window(run, layers, made_by, folder, stride)

    return make


def check_display() -> None:
    """SinkError when no window can be opened here.

    OpenCV ends the whole process when a display is missing or refuses, so a process of its own
    tries first.
    """
    linux = sys.platform.startswith("linux")
    if linux and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise SinkError(
            "there is no display for a window (neither DISPLAY nor WAYLAND_DISPLAY is set); "
            "write to a file with --output, or watch in a browser with --serve 127.0.0.1:8000"
        )
    # What the probe cannot see: the order in which this process loaded the two.
    loaded = [name for name in sys.modules if name in ("av", "cv2")]
    if linux and loaded == ["av", "cv2"]:
        raise SinkError("windows hang when PyAV is loaded first; import cv2 before you import av")
    try:
        probe = subprocess.run(
            [sys.executable, "-c", PROBE], capture_output=True, text=True, timeout=30, check=False
        )
        if probe.returncode == 0:
            return
        said = [line for line in probe.stderr.splitlines() if line.strip()]
        telling = [line for line in said if "display" in line] or said[-1:]
        reason = telling[0].strip() if telling else f"exit code {probe.returncode}"
        headless = "not implemented" in probe.stderr
    except subprocess.TimeoutExpired:
        reason, headless = "no answer from the display", False
    if headless:
        raise SinkError(
            "this OpenCV cannot open windows: pip uninstall opencv-python-headless, "
            "then pip install opencv-python"
        )
    raise SinkError(f"no window can be opened on display {os.environ.get('DISPLAY')}: {reason}")
