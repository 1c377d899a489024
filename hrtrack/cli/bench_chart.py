"""Charts of `hrtrack bench`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..tracker.bench import PipelineReport

STAGE_COLOURS = {
    "decode": "#8c8c8c",
    "detect": "#2a7fb8",
    "crop": "#7fc8a9",
    "infer": "#e07b39",
    "associate": "#b05fb5",
    "act": "#d9b44a",
    "draw": "#c25b6e",
    "encode": "#5a5a5a",
}


def pipeline_chart(
    path: Path, reports: Sequence[PipelineReport], peers: Sequence[dict[str, Any]]
) -> None:
    """Frames a second of every run and peer; beside them a frame's time by stage."""
    from matplotlib.figure import Figure

    names = [f"{report.name} ({report.people:.1f} a frame)" for report in reports]
    beside = [_short(peer) for peer in peers]
    figure = Figure(figsize=(11, 0.5 * len(names + beside) + 1.8), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    fps = [report.fps for report in reports] + [peer["fps"] for peer in peers]
    places = range(len(fps))
    colours = ["#2a7fb8"] * len(names) + ["#b0b0b0"] * len(beside)
    bars = left.barh(places, fps, color=colours)
    left.bar_label(bars, fmt="%.1f", padding=3)
    left.axvline(30, color="#444444", linewidth=0.8, linestyle=":")
    left.set_xlim(0, max([*fps, 30]) * 1.15)
    left.set_yticks(places, names + beside)
    left.invert_yaxis()
    left.set_xlabel("frames a second (dotted: 30)")
    _stack(right, reports)
    right.set_xlabel("ms a frame, by stage")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=8, frameon=False)
    figure.savefig(path, dpi=120)


def _stack(axes: Any, reports: Sequence[PipelineReport]) -> None:
    times = [{stage.stage: stage.per_frame for stage in report.stages} for report in reports]
    ends = [0.0] * len(times)
    for name, colour in STAGE_COLOURS.items():
        widths = [stages.get(name, 0.0) for stages in times]
        if any(widths):
            axes.barh(range(len(widths)), widths, left=ends, color=colour, label=name)
            ends = [end + width for end, width in zip(ends, widths, strict=True)]
    for place, end in enumerate(ends):
        axes.annotate(f"{end:.1f}", (end, place), (3, 0), textcoords="offset points", va="center")
    axes.set_xlim(0, max(ends) * 1.15)


def _short(peer: dict[str, Any]) -> str:
    """A peer's name without its explanation, and its people."""
    name = str(peer["name"]).partition(":")[0]
    return name if peer["people"] is None else f"{name} ({peer['people']:.1f} a frame)"
