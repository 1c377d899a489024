"""How far a training is, and the optimiser's settings there."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..configs.base import FitSection

ONE_CYCLE_RISE, ONE_CYCLE_START, ONE_CYCLE_END = 0.15, 1 / 25, 1e-4
"""The share of a cycle that rises; the first rate as a share of the top; the last of the first."""
MOMENTUM = 0.95, 0.85
"""Of a cycle: where the rate is lowest, and where it is highest."""


class Clock:
    """How far a training is, in [0, 1]: by minutes, by steps, or by examples, whichever is given.

    Args:
        minutes: of the training alone, without what comes before its first step.
        steps: of the optimiser.
        examples: seen in all, where neither minutes nor steps are given.
        elapsed: seconds that earlier runs of the same training took.
    """

    def __init__(
        self,
        *,
        minutes: float | None = None,
        steps: int | None = None,
        examples: float = math.inf,
        elapsed: float = 0.0,
    ) -> None:
        self._minutes, self._steps, self._examples = minutes, steps, examples
        self._before = elapsed
        self._begin: float | None = None

    def start(self) -> None:
        """Time runs from here on."""
        self._begin = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds of training so far, earlier runs included."""
        return self._before + (0.0 if self._begin is None else time.monotonic() - self._begin)

    def share(self, step: int, seen: int) -> float:
        """How far the training is after ``step`` steps and ``seen`` examples."""
        if self._minutes is not None:
            done = self.elapsed / (60 * self._minutes)
        elif self._steps is not None:
            done = step / self._steps
        else:
            done = seen / self._examples
        return min(done, 1.0)


def settings_at(fit: FitSection, step: int, share: float) -> dict[str, Any]:
    """What an optimiser's groups are told before a step (from 0 on) at a share of the training.

    A linear warm-up over ``warmup_steps`` times, by ``schedule``: ``step``, a factor ``gamma`` at
    each of the ``milestones``; ``cosine``, half a cosine down to the share ``floor`` of the rate.
    ``one_cycle`` is Smith and Topin's, "Super-Convergence", 2018, of ``fit.steps``: the rate rises
    by half a cosine and falls to nearly nothing by another, and momentum does the reverse.
    """
    if fit.schedule == "one_cycle":
        return _one_cycle(fit, step)
    warm = min(1.0, (step + 1) / fit.warmup_steps) if fit.warmup_steps else 1.0
    if fit.schedule == "cosine":
        cosine = 0.5 * (1 + math.cos(math.pi * share))
        return {"lr": fit.lr * warm * (fit.floor + (1 - fit.floor) * cosine)}
    # A share that stands for a whole number of epochs must not miss its milestone by rounding.
    passed = sum(share >= milestone - 1e-9 for milestone in fit.milestones)
    return {"lr": fit.lr * warm * fit.gamma**passed}


def _one_cycle(fit: FitSection, step: int) -> dict[str, Any]:
    assert fit.steps is not None
    first, last = fit.lr * ONE_CYCLE_START, fit.lr * ONE_CYCLE_START * ONE_CYCLE_END
    slow, quick = MOMENTUM
    top = min(ONE_CYCLE_RISE * fit.steps, fit.steps - 1) - 1
    if step <= top:
        way, rates, momenta = step / top, (first, fit.lr), (slow, quick)
    else:
        way, rates, momenta = (step - top) / (fit.steps - 1 - top), (fit.lr, last), (quick, slow)
    down = (math.cos(math.pi * way) + 1) / 2
    lr, momentum = (end + (start - end) * down for start, end in (rates, momenta))
    return {"lr": lr, "betas": (momentum, 0.999)}
