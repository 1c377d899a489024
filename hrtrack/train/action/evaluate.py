"""How often an action network is right, and what that depends on."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...errors import DataError
from ...models.action_info import ActionInfo
from ..data.clips import UNKNOWN, ActionClip
from .distort import at_rate, spoil
from .predict import Logits, predict

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
    sure = (known.max(1) >= info.threshold) & (probabilities.argmax(1) < len(info.labels))
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
        answered=float(sure.mean()),
        answered_top1=float((given == truth)[sure].mean()) if sure.any() else 0.0,
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
