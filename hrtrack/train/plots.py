"""Figures for people to look at: ablations, and accuracy against time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .ablate import Run

COLOURS = ("tab:blue", "tab:orange", "tab:green")
DPI = 110


@dataclass(frozen=True, slots=True)
class Point:
    """One model in an accuracy-against-time figure.

    ``milliseconds`` a person; ``accuracy`` in percent with its 95 % interval; ``group`` gets a
    colour of its own.
    """

    name: str
    milliseconds: float
    accuracy: float
    interval: tuple[float, float]
    group: str = ""


def plot_ablation(runs: Sequence[Run], scope: str, path: Path, floor: float | None = None) -> None:
    """Validation mean per epoch: each variant alone, and all of them together.

    Thin lines are single runs; together, lines are means over seeds and bands reach from the
    lowest to the highest seed. ``floor`` is what an answer without looking gets, a dotted line.
    """
    variants = list(dict.fromkeys(run.variant for run in runs))
    figure, panels = _panels(len(variants) + 1)
    highest = max((max(run.scores) for run in runs if run.scores), default=1.0)
    for panel, variant, colour in zip(panels, variants, COLOURS, strict=False):
        chosen = [run for run in runs if run.variant == variant]
        for run, style in zip(chosen, ("-", "--", ":", "-.") * len(chosen), strict=False):
            epochs = np.arange(1, len(run.scores) + 1)
            said = f"seed {run.seed}" + (" (diverged)" if run.failed else "")
            panel.plot(epochs, run.scores, style, color=colour, marker="o", ms=3, lw=1, label=said)
        panel.set_title(variant, fontsize=10)
        _together(panels[-1], chosen, variant, colour)
    panels[-1].set_title("all together", fontsize=10)
    for panel in panels:
        if floor is not None:
            panel.axhline(floor, color="0.5", linestyle=":", lw=1, label="median pose")
        panel.set(xlabel="epoch", ylim=(0, 1.6 * highest))
        panel.grid(alpha=0.3)
        panel.legend(fontsize=8, loc="upper left")
    panels[0].set_ylabel("validation, mean " + " / ".join({run.measure for run in runs}))
    figure.suptitle(f"Batch norm and activation taken out of: {scope}")
    figure.savefig(path, dpi=DPI)


def _together(panel: Any, runs: Sequence[Run], variant: str, colour: str) -> None:
    begun = [run.scores for run in runs if run.scores]
    if not begun:
        return
    length = min(len(scores) for scores in begun)
    scores = np.array([each[:length] for each in begun])
    epochs = np.arange(1, length + 1)
    panel.plot(epochs, scores.mean(axis=0), color=colour, marker="o", ms=3, label=variant)
    panel.fill_between(epochs, scores.min(axis=0), scores.max(axis=0), color=colour, alpha=0.2)


def plot_accuracy_against_time(
    points: Sequence[Point], path: Path, *, accuracy: str, time: str
) -> None:
    """One point a model with its interval; upper left is better. ``time`` and ``accuracy``
    label the axes. A dashed line joins the models that no other beats in both."""
    figure, (panel,) = _panels(1, width=6.8, height=4.4)
    groups = list(dict.fromkeys(point.group for point in points))
    best = front(points)
    panel.plot(
        [point.milliseconds for point in best], [point.accuracy for point in best],
        "--", color="0.6", lw=1, zorder=0,
    )  # fmt: skip
    order = sorted(points, key=lambda point: point.milliseconds)
    ranks = {point.name: rank for rank, point in enumerate(order)}
    for group, colour in zip(groups, (*COLOURS, "tab:red", "tab:grey"), strict=False):
        chosen = [point for point in points if point.group == group]
        x = [point.milliseconds for point in chosen]
        y = np.array([point.accuracy for point in chosen])
        ends = np.array([point.interval for point in chosen]).T
        bars = np.abs(ends - y)
        panel.errorbar(x, y, bars, fmt="o", color=colour, capsize=3, label=group or None)
        for point in chosen:
            panel.annotate(
                point.name, (point.milliseconds, point.accuracy),
                xytext=(7, 5 if ranks[point.name] % 2 else -12),  # neighbours apart
                textcoords="offset points", fontsize=8.5,
            )  # fmt: skip
    panel.text(0.01, 0.99, "\u2196 better", transform=panel.transAxes, va="top", color="0.45")
    panel.set(xlabel=time, ylabel=accuracy, xlim=(0, 1.3 * max(p.milliseconds for p in points)))
    panel.grid(alpha=0.3)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)
    if any(groups):
        panel.legend(fontsize=8.5, loc="lower right", frameon=False)
    figure.savefig(path, dpi=DPI)


def front(points: Sequence[Point]) -> list[Point]:
    """The models than which no other is as fast and more accurate, from fast to slow."""
    best: list[Point] = []
    for point in sorted(points, key=lambda one: (one.milliseconds, -one.accuracy)):
        if not best or point.accuracy > best[-1].accuracy:
            best.append(point)
    return best


def _panels(count: int, width: float = 3.4, height: float = 3.4) -> tuple[Any, list[Any]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * count, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(1, count, sharey=True, squeeze=False)[0])
