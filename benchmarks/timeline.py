"""One frame's way through hrtrack as a picture, from a trace.

    hrtrack bench pipeline CLIP --trace TRACE.json
    python -m benchmarks.timeline TRACE.json OUT.png [--frame 40]

CLIP may be a camera, or a clip at a camera's pace (``lavfi:movie=CLIP,fps=15``), whose frames are
decoded in the loop's thread. A row for each thread, time to the right. The frame's stages are in
colour and carry their milliseconds; what the threads do for other frames meanwhile is grey.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from hrtrack.cli import run
from hrtrack.cli.bench import STAGE_COLOURS
from hrtrack.errors import UsageError

ROWS = {
    "decode": "reads and decodes",
    "MainThread": "finds, estimates,\nfollows people",
    "encode": "draws and encodes",
}
MARGIN = 0.06
AHEAD = 10
"""Frames that a file's decoder may be ahead; a trace with more of them lost frames of a camera."""
NARROW = 0.035
"""A stage that takes less than this share of the width is named beside itself."""


@dataclass(frozen=True)
class Event:
    """One time a stage ran, in milliseconds of the trace."""

    stage: str
    thread: str
    start: float
    end: float


def read(path: Path) -> list[Event]:
    """The stages of a trace, by their starts; UsageError for another file."""
    try:
        events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
        threads = {one["tid"]: one["args"]["name"] for one in events if one["ph"] == "M"}
        found = [
            Event(one["name"], threads[one["tid"]], one["ts"] / 1e3, (one["ts"] + one["dur"]) / 1e3)
            for one in events
            if one["ph"] == "X"
        ]
    except (ValueError, KeyError, TypeError):
        raise UsageError(f"{path} is no trace of hrtrack bench pipeline --trace") from None
    return sorted(found, key=lambda event: event.start)


def of_frame(events: list[Event], number: int) -> list[Event]:
    """The stages of one frame: of each that runs once a frame the same one in order, and what
    the loop does between its first and its last.

    Of a camera the loop may have left out frames, so what it took is the newest that there was.
    """
    every = {
        stage: [one for one in events if one.stage == stage]
        for stage in ("decode", "detect", "associate", "draw", "encode")
    }
    decoded = every.pop("decode")
    least = min(map(len, every.values()))
    if number >= least:
        raise UsageError(f"the trace has {least} whole frames, none with the number {number}")
    mine = [ones[number] for ones in every.values()]
    begin, end = every["detect"][number], every["associate"][number]
    newest = [one for one in decoded if one.end <= begin.start]
    in_turn = decoded[number : number + 1]
    mine += newest[-1:] if len(decoded) > least + AHEAD else in_turn
    between = [
        one
        for one in events
        if one.thread == begin.thread and begin.end <= one.start and one.end <= end.start
    ]
    return sorted([*mine, *between], key=lambda event: event.start)


def paint(events: list[Event], number: int, path: Path) -> None:
    """Draws the timeline of a frame to a PNG or SVG file."""
    from matplotlib.figure import Figure

    mine = of_frame(events, number)
    begin, end = min(one.start for one in mine), max(one.end for one in mine)
    room = MARGIN * (end - begin)
    left, right = -room, end - begin + room
    threads = {one.thread for one in events}
    names = [name for name in ROWS if name in threads] + sorted(threads - set(ROWS))
    figure = Figure(figsize=(10.5, 0.95 * len(names) + 1.2), layout="constrained")
    axes = figure.subplots()
    for one in events:
        if one.end - begin < left or one.start - begin > right:
            continue
        place, width = names.index(one.thread), one.end - one.start
        colour = STAGE_COLOURS.get(one.stage, "#777777") if one in mine else "#e3e3e3"
        edge: dict[str, Any] = {"edgecolor": "white", "linewidth": 0.6}
        axes.barh(place, width, left=one.start - begin, height=0.5, color=colour, **edge)
    beside: dict[str, int] = {}
    for one in mine:
        place, middle = names.index(one.thread), (one.start + one.end) / 2 - begin
        label = f"{one.stage} {one.end - one.start:.1f}"
        if one.end - one.start > NARROW * len(label) / 4 * (right - left):
            style: dict[str, Any] = {"color": "white", "fontsize": 9, "fontweight": "bold"}
            axes.text(middle, place, label, ha="center", va="center", **style)
            continue
        step = beside[one.thread] = beside.get(one.thread, -1) + 1
        side = 1 if place == len(names) - 1 else -1
        line = {"arrowstyle": "-", "color": "#888888", "linewidth": 0.6}
        far = 0.34 + 0.15 * (step % 3)
        axes.annotate(
            label, (middle, place + side * 0.25), (middle, place + side * far),
            fontsize=8.5, ha="center", va="top" if side > 0 else "bottom", arrowprops=line,
        )  # fmt: skip
    _waits(axes, mine, names, begin)
    axes.set_xlim(left, right)
    axes.set_ylim(len(names) - 0.35, -0.8)
    labels = [f"{name}:\n{ROWS[name]}" if name in ROWS else name for name in names]
    axes.set_yticks(range(len(names)), labels)
    axes.set_xlabel(
        f"milliseconds since the decoder began with frame {number}; grey: other frames; "
        f"{end - begin:.1f} ms in all"
    )
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    figure.savefig(path, dpi=110)


def _waits(axes: Any, mine: list[Event], names: list[str], begin: float) -> None:
    """Arrows from each thread to the next that takes the frame over."""
    for one, after in itertools.pairwise(mine):
        if one.thread != after.thread:
            x0, y0 = one.end - begin, names.index(one.thread)
            x1, y1 = after.start - begin, names.index(after.thread)
            arrow = {"arrowstyle": "-|>", "color": "#333333", "shrinkA": 0, "shrinkB": 2}
            axes.annotate("", (x1, y1 - 0.25), (x0, y0 + 0.25), arrowprops=arrow)
            axes.text(
                (x0 + x1) / 2, (y0 + y1) / 2 + 0.03, f"waits {x1 - x0:.1f}  ", fontsize=8.5,
                color="#333333", ha="right", va="top",
            )  # fmt: skip


@click.command(help=__doc__)
@click.argument("trace", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--frame", type=click.IntRange(0), default=40, show_default=True)
def main(trace: Path, out: Path, frame: int) -> None:
    paint(read(trace), frame, out)


if __name__ == "__main__":
    run(main, "timeline")
