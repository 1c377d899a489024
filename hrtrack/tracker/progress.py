"""A progress bar with frames per second, people and time left; silent where asked."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from ..poses import Poses
from .video.frame import Frame

SMOOTHING = 0.05
"""Weight of the newest frame's time in the running FPS."""


class Speed:
    """Frames per second: a running figure and the mean since the first frame.

    The running figure averages times, not rates: the few frames that come at once, out of a
    queue, would else count for hundreds.
    """

    def __init__(self) -> None:
        self.frames = 0
        self._period = 0.0
        self._first = self._last = time.monotonic()

    def step(self) -> None:
        """Counts one finished frame."""
        instant = time.monotonic()
        self.frames += 1
        weight = max(SMOOTHING, 1 / self.frames)
        self._period += weight * (instant - self._last - self._period)
        self._last = instant

    @property
    def now(self) -> float:
        """Frames per second over about the last 20 frames."""
        return 1 / max(self._period, 1e-6) if self.frames else 0.0

    @property
    def seconds(self) -> float:
        """From the start to the last finished frame."""
        return self._last - self._first

    @property
    def mean(self) -> float:
        """Frames per second over the whole run."""
        return self.frames / max(self.seconds, 1e-6)


def new_bars(*, quiet: bool) -> Progress:
    """Bars on stderr, one below the other; nothing is shown where stderr is no terminal."""
    console = Console(stderr=True)
    return Progress(
        SpinnerColumn(),
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        refresh_per_second=5,
        transient=True,
        disable=quiet or not console.is_terminal,
    )


class Meter:
    """Counts frames, people and identities, and shows them on stderr while the loop runs.

    ``people`` is the sum over all frames of the people in each. ``bars``, where given, take one
    line for it and are shown by whoever made them.
    """

    def __init__(
        self,
        name: str,
        total: int | None,
        *,
        quiet: bool,
        live: bool,
        bars: Progress | None = None,
    ) -> None:
        self.speed = Speed()
        self.people = 0
        self.ids: set[int] = set()
        self._live = live
        self._own = bars is None
        self._bar = bars or new_bars(quiet=quiet)
        self._shown = not self._bar.disable
        self._task = self._bar.add_task(name, total=total, figures="")

    def __enter__(self) -> Self:
        if self._own:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._own:
            self._bar.stop()
        else:
            self._bar.stop_task(self._task)

    def step(self, frame: Frame, poses: Poses) -> None:
        """Counts one frame."""
        self.speed.step()
        self.people += len(poses)
        self.ids.update(int(i) for i in poses.ids if i >= 0)
        if not self._shown:
            return
        figures = f"{self.speed.now:5.1f} FPS  {len(poses)} people"
        if self._live:
            figures += f"  {frame.dropped} dropped"
            if frame.arrived is not None:
                figures += f"  {(time.monotonic() - frame.arrived) * 1e3:.0f} ms old"
        self._bar.update(self._task, advance=1, figures=figures)
