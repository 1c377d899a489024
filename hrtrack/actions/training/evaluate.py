"""How often an action network is right, what that depends on, and the charts of it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...errors import DataError
from ...types import Float32Array
from ..clips import UNKNOWN, ActionClip
from ..info import ActionInfo, Window, normalise, sample
from ..tagger import Logits
from .augment import at_rate, spoil


def windows_of(clip: ActionClip, window: Window) -> Float32Array:
    """Windows (M, T, 13, 3) that cover a clip at steps of at most a quarter of their length."""
    start, end = float(clip.times[0]), float(clip.times[-1])
    first = min(start + window.seconds, end)
    count = 1 + int(np.ceil((end - first) / (window.seconds / 4)))
    ends = np.linspace(first, end, count) if count > 1 else [end]
    return np.stack([sample(clip.times, clip.joints, float(e), window) for e in ends])


def softmax(logits: Float32Array, temperature: float = 1.0) -> Float32Array:
    """Along the last axis."""
    scaled = logits / temperature
    scaled = np.exp(scaled - scaled.max(-1, keepdims=True))
    return (scaled / scaled.sum(-1, keepdims=True)).astype(np.float32)


def predict(
    network: Logits, clips: Sequence[ActionClip], window: Window, temperature: float = 1.0
) -> Float32Array:
    """Mean probabilities (clips, classes) over the windows of each clip."""
    windows = [windows_of(clip, window) for clip in clips]
    logits = run(network, normalise(np.concatenate(windows)))
    probabilities = softmax(logits, temperature)
    bounds = np.cumsum([len(w) for w in windows])[:-1]
    return np.stack([part.mean(0) for part in np.split(probabilities, bounds)])


def run(network: Logits, inputs: Float32Array, size: int = 64) -> Float32Array:
    """Logits (N, classes) of any number of inputs, ``size`` at a time."""
    return np.concatenate([network(inputs[i : i + size]) for i in range(0, len(inputs), size)])


FRACTIONS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
NOISES = (0.5, 1.0, 2.0, 3.0)
MISSING = (0.1, 0.2, 0.3, 0.5)
RATES = (5.0, 8.0, 10.0, 15.0)
TYPICAL_NOISE, TYPICAL_MISSING = 1.0, 0.2


@dataclass(frozen=True)
class PerAction:
    """One row of the table; ``recall`` is the action's own top-1, None without clips of it.

    ``precision`` is None where the action was never answered.
    """

    label: str
    clips: int
    recall: float | None
    precision: float | None


@dataclass(frozen=True)
class ActionReport:
    """What `evaluate` found; shares lie in [0, 1], curves are (what was varied, top-1).

    ``tracked`` is the top-1 at `TYPICAL_NOISE` and `TYPICAL_MISSING`; ``answered`` the share
    of clips above the threshold and ``answered_top1`` the top-1 among those. ``confusion``
    has a row for every true and a column for every given action.
    """

    clips: int
    top1: float
    tracked: float
    answered: float
    answered_top1: float
    per_action: tuple[PerAction, ...]
    labels: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]
    curves: dict[str, tuple[tuple[float, float], ...]]

    def save(self, path: Path) -> None:
        """As JSON."""
        path.write_text(json.dumps(dataclasses.asdict(self), indent=1) + "\n", encoding="utf-8")


def evaluate(
    network: Logits,
    info: ActionInfo,
    clips: Sequence[ActionClip],
    *,
    curves: bool = True,
    seed: int = 0,
    step_done: Callable[[str], None] = lambda title: None,
) -> ActionReport:
    """Runs whole clips, then, for the curves, parts of them and worse ones.

    Top-1 is forced: the likeliest of the known actions, whatever "unknown" says. DataError
    when a clip's label is not among the network's.
    """
    clips = _named(clips)
    strange = {clip.label for clip in clips} - set(info.labels)
    if strange or not clips:
        raise DataError(
            f"the clips show {', '.join(sorted(strange)) or 'no action'}; "
            f"the network knows {', '.join(info.labels)}"
        )
    truth = np.array([info.labels.index(clip.label) for clip in clips])

    def top1(title: str, shown: Sequence[ActionClip]) -> float:
        given = predict(network, shown, info.window, info.temperature)[:, : len(info.labels)]
        step_done(title)
        return float((given.argmax(1) == truth).mean())

    def spoilt(noise: float, missing: float) -> list[ActionClip]:
        rng = np.random.default_rng(seed)
        return [spoil(rng, clip, noise, missing) for clip in clips]

    probabilities = predict(network, clips, info.window, info.temperature)
    step_done("whole clips")
    known = probabilities[:, : len(info.labels)]
    given = known.argmax(1)
    answered_clips = (known.max(1) >= info.threshold) & (probabilities.argmax(1) < len(info.labels))
    confusion = np.zeros((len(info.labels),) * 2, int)
    np.add.at(confusion, (truth, given), 1)
    whole = float((given == truth).mean())
    found: dict[str, tuple[tuple[float, float], ...]] = {}
    if curves:
        full_rate, rates = _rates(clips)
        found = {
            "seen": (
                *((f, top1("seen", [c.first(f) for c in clips])) for f in FRACTIONS),
                (1.0, whole),
            ),
            "noise": ((0.0, whole), *((x, top1("noise", spoilt(x, 0.0))) for x in NOISES)),
            "missing": ((0.0, whole), *((x, top1("missing", spoilt(0.0, x))) for x in MISSING)),
            "frame rate": (
                *((r, top1("frame rate", [at_rate(c, r) for c in clips])) for r in rates),
                (full_rate, whole),
            ),
        }
    return ActionReport(
        clips=len(clips),
        top1=whole,
        tracked=top1("as tracked", spoilt(TYPICAL_NOISE, TYPICAL_MISSING)),
        answered=float(answered_clips.mean()),
        answered_top1=float((given == truth)[answered_clips].mean())
        if answered_clips.any()
        else 0.0,
        per_action=_table(confusion, info.labels),
        labels=info.labels,
        confusion=tuple(tuple(int(n) for n in row) for row in confusion),
        curves=found,
    )


def steps(clips: Sequence[ActionClip], curves: bool) -> int:
    """How often `evaluate` calls ``step_done``."""
    clips = _named(clips)
    if not curves or not clips:
        return 2
    return 2 + len(FRACTIONS) + len(NOISES) + len(MISSING) + len(_rates(clips)[1])


def _named(clips: Sequence[ActionClip]) -> list[ActionClip]:
    return [clip for clip in clips if clip.label != UNKNOWN]


def _rates(clips: Sequence[ActionClip]) -> tuple[float, list[float]]:
    """The clips' frames a second, told by the first, and the lower rates to try."""
    full = round(1.0 / float(np.median(np.diff(clips[0].times))), 1)
    return full, [rate for rate in RATES if rate < full]


def _table(confusion: NDArray[np.int_], labels: Sequence[str]) -> tuple[PerAction, ...]:
    rows = []
    for i, label in enumerate(labels):
        own, all_given = confusion[i].sum(), confusion[:, i].sum()
        right = confusion[i, i]
        rows.append(
            PerAction(
                label,
                int(own),
                float(right / own) if own else None,
                float(right / all_given) if all_given else None,
            )
        )
    return tuple(rows)


def auroc(known: NDArray[np.floating], unknown: NDArray[np.floating]) -> float:
    """How likely a known clip's confidence exceeds an unknown one's; ties count half."""
    values = np.concatenate((known, unknown))
    order = np.argsort(values, kind="stable")
    ranks = np.empty(len(values))
    ranks[order] = np.arange(1, len(values) + 1)
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.bincount(inverse, ranks) / counts)[inverse]
    n, m = len(known), len(unknown)
    return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * m))


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
