"""What a pose training shows of itself: its validation crops, and its curves."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ...skeleton import Skeleton
from .validate import Validation

COLUMNS = 8
MIN_SCORE = 0.2
LABEL = (255, 255, 255)


def save_batch(validation: Validation, skeleton: Skeleton, path: Path) -> None:
    """Draws the first crops with predicted limbs, and the labels as white rings."""
    tiles = [
        _drawn(crop, predicted, labels, skeleton)
        for crop, predicted, labels in zip(
            validation.crops,
            validation.predicted,
            validation.labelled,
            strict=True,
        )
    ]
    while len(tiles) % COLUMNS:
        tiles.append(np.zeros_like(tiles[0]))
    rows = [np.concatenate(tiles[i : i + COLUMNS], axis=1) for i in range(0, len(tiles), COLUMNS)]
    cv2.imwrite(str(path), cv2.cvtColor(np.concatenate(rows), cv2.COLOR_RGB2BGR))


def _drawn(
    crop: NDArray[np.uint8],
    predicted: NDArray[np.floating],
    labels: NDArray[np.floating],
    skeleton: Skeleton,
) -> NDArray[np.uint8]:
    canvas = crop.copy()
    places = [(round(float(x)), round(float(y))) for x, y in predicted[:, :2]]
    confident = predicted[:, 2] >= MIN_SCORE
    for limb in skeleton.limbs:
        if confident[list(limb)].all():
            a, b = (places[joint] for joint in limb)
            cv2.line(canvas, a, b, skeleton.limb_colour(limb), 2, cv2.LINE_AA)
    for joint, place in enumerate(places):
        if confident[joint]:
            cv2.circle(canvas, place, 2, skeleton.limb_colour((joint, joint)), -1, cv2.LINE_AA)
    for x, y, weight in labels:
        if weight > 0:
            cv2.circle(canvas, (round(float(x)), round(float(y))), 3, LABEL, 1, cv2.LINE_AA)
    return canvas


def save_curves(folder: Path, title: str) -> None:
    """Draws loss, rate and validation from the run's CSV files into ``curves.png``."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    train, val = _columns(folder / "train.csv"), _columns(folder / "val.csv")
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    loss, score = figure.subplots(1, 2)
    loss.plot(train["epoch"], train["loss"], color="tab:blue", linewidth=1)
    loss.set(xlabel="epoch", ylabel="training loss", yscale="log")
    rate = loss.twinx()
    rate.plot(train["epoch"], train["lr"], color="tab:grey", linewidth=0.8, linestyle="--")
    rate.set(ylabel="learning rate (dashed)")
    for name, colour, factor in (("pckh", "tab:green", 1), ("oks", "tab:orange", 100)):
        if val and not np.isnan(val[name]).all():
            label = "PCKh@0.5" if name == "pckh" else "mean OKS x 100"
            score.plot(val["epoch"], val[name] * factor, "o-", color=colour, label=label, ms=3)
            score.legend()
    score.set(xlabel="epoch", ylabel="validation", ylim=(0, 100))
    score.grid(alpha=0.3)
    figure.suptitle(title)
    figure.savefig(folder / "curves.png", dpi=120)


def _columns(path: Path) -> dict[str, NDArray[np.float64]]:
    if not path.is_file():
        return {}
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = rows[0].keys() if rows else ()
    return {name: np.array([float(row[name] or "nan") for row in rows]) for name in names}
