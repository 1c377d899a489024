"""Figures for people to look at: ablations, and accuracy against time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    pass


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


def plot_accuracy_against_time(
    points: Sequence[Point], path: Path, *, accuracy: str, time: str
) -> None:
    """One point a model with its interval; upper left is better. ``time`` and ``accuracy``
    label the axes. A dashed line joins the models that no other beats in both."""
    figure, (panel,) = panels_of(1, width=6.8, height=4.4)
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


def panels_of(count: int, width: float = 3.4, height: float = 3.4) -> tuple[Any, list[Any]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * count, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(1, count, sharey=True, squeeze=False)[0])
