"""The report as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np


def chart(report: dict[str, Any], path: Path) -> None:
    """Crops a second by model, batch and back end; nothing without figures or matplotlib."""
    alone = {name: value for name, value in report.get("throughput", {}).items() if "batch" in name}
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return
    if not alone:
        return

    series = {
        kind.replace("_", " "): {name: value[kind] for name, value in alone.items()}
        for kind in ("eager_fp32", "graphs_fp16")
    }
    for package in ("tensorrt-rtx", "tensorrt"):
        rows = {name: row for name, row in report.get(package, {}).items() if name in alone}
        if rows:
            series[package] = rows
    figure = Figure(figsize=(9, 0.25 * len(alone) * len(series) + 1.5), layout="constrained")
    axes = figure.subplots()
    places = dict(zip(alone, range(len(alone)), strict=True))
    thickness = 0.8 / len(series)
    for position, (label, rows) in enumerate(series.items()):
        bars = axes.barh(
            [places[name] + position * thickness for name in rows],
            [row["crops_per_s"] for row in rows.values()],
            thickness,
            label=label,
        )
        axes.bar_label(bars, fmt="%.0f", padding=3, fontsize=8)
    middle = (len(series) - 1) * thickness / 2
    axes.set_yticks(np.array(list(places.values())) + middle, list(places))
    axes.invert_yaxis()
    axes.set_xlabel(f"crops per second, {report['machine'].get('gpu', 'CPU rehearsal')}")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=120)
