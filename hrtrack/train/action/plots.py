"""Pictures of an `ActionReport`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .evaluate import ActionReport

AXES = {
    "seen": ("share of the clip seen", 100.0, " %"),
    "noise": ("keypoint noise (OKS spreads)", 1.0, ""),
    "missing": ("share of joints missing", 100.0, " %"),
    "frame rate": ("frames a second", 1.0, ""),
}


def plot_confusion(report: ActionReport, path: Path) -> None:
    """The confusion matrix as PNG; rows are what was shown, columns what was answered."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    counts = np.array(report.confusion)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = 3.0 + 0.42 * len(report.labels)
    figure = Figure(figsize=(side, side), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    names = [label.replace("_", " ") for label in report.labels]
    axes.set_xticks(range(len(names)), names, rotation=90)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("answered")
    axes.set_ylabel("shown")
    for i, j in zip(*np.nonzero(counts), strict=True):
        colour = "white" if shares[i, j] > 0.5 else "black"
        axes.text(j, i, str(counts[i, j]), ha="center", va="center", color=colour, fontsize=8)
    axes.set_title(f"top-1 {report.top1:.1%} of {report.clips} clips")
    figure.savefig(path, dpi=120)


def plot_curves(report: ActionReport, path: Path) -> None:
    """Top-1 against each thing that was varied, as one PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 7), layout="constrained")
    FigureCanvasAgg(figure)
    for place, (name, points) in enumerate(report.curves.items(), 1):
        title, factor, unit = AXES[name]
        axes = figure.add_subplot(2, 2, place)
        x, y = np.array(points).T
        axes.plot(x * factor, 100 * y, marker="o")
        axes.set_xlabel(title + (f" ({unit.strip()})" if unit else ""))
        axes.set_ylabel("top-1 (%)")
        axes.set_ylim(min(50.0, 100 * y.min() - 2), 101)
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
