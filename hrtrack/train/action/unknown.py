"""Whether a network notices actions that it was never shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ...configs.action_schema import ActionConfig
from ..data.clips import ActionClip, labels_of, split
from .evaluate import auroc
from .fit import as_function, fit
from .predict import predict


@dataclass(frozen=True)
class LeftOut:
    """One fold: trained without ``actions``.

    ``auroc`` is of the confidence, known against left-out clips; ``called_unknown`` the
    share of left-out clips below the confidence that keeps ``keep`` of the rightly answered
    known ones; ``top1`` that of the known ones.
    """

    actions: tuple[str, ...]
    auroc: float
    called_unknown: float
    top1: float


def leave_out(
    config: ActionConfig,
    train: Sequence[ActionClip],
    test: Sequence[ActionClip],
    *,
    folds: int = 3,
    size: int = 3,
    seed: int = 0,
    step_done: Callable[[int, int, float], None] = lambda step, steps, loss: None,
) -> list[LeftOut]:
    """Trains ``folds`` networks, each without ``size`` other actions, drawn by ``seed``.

    The confidence of a clip is the mean probability of its likeliest known action, with
    "unknown" among the answers.
    """
    labels = labels_of(train)
    order = np.random.default_rng(seed).permutation(len(labels))
    found = []
    for fold in range(folds):
        absent = tuple(sorted(labels[i] for i in order[fold * size : (fold + 1) * size]))
        known = tuple(label for label in labels if label not in absent)
        rest, held = split([c for c in train if c.label in known], config.fit.held_out, seed)
        fitted = fit(config, rest, held, known, seed, step_done)
        network = as_function(fitted.net)
        answers = predict(network, test, fitted.info.window, fitted.info.temperature)
        answers = answers[:, : len(known)]
        confidence = answers.max(1)
        strange = np.array([clip.label in absent for clip in test])
        right = np.array(
            [known[a] == clip.label for a, clip in zip(answers.argmax(1), test, strict=True)]
        )
        cut = np.quantile(confidence[right], 1.0 - config.fit.keep)
        found.append(
            LeftOut(
                absent,
                auroc(confidence[~strange], confidence[strange]),
                float((confidence[strange] < cut).mean()),
                float(right[~strange].mean()),
            )
        )
    return found
