"""Notices when a training stops being finite, before that reaches what is saved."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..errors import ModelError

ADVICE = "lower fit.lr"


class Diverged(ModelError):
    """A training whose numbers became NaN or infinite."""


def require_numbers(
    step: int, loss: float, gradient: float, saved: Path | None = None, *, advice: str = ADVICE
) -> None:
    """`Diverged` where the loss of a step or its gradient's norm is NaN or infinite.

    ``saved`` is the state on the disk, which stays as it is; None where there never is one.
    """
    for name, value in (("loss", loss), ("gradient", gradient)):
        if not math.isfinite(value):
            raise Diverged(_said(f"the {name} became {value}", step, saved, advice))


def require_sound_state(
    step: int, network: Mapping[str, Tensor], average: Mapping[str, Tensor],
    saved: Path | None = None, *, advice: str = ADVICE,
) -> None:  # fmt: skip
    """`Diverged` where weights, norms' statistics or the averages of both are NaN or infinite.

    Both are state dictionaries; looking waits for the device.
    """
    for kind, state in (("", network), ("the running average of ", average)):
        name = _first_unsound(state)
        if name is None:
            continue
        statistics = name.endswith(("running_mean", "running_var"))
        what = f"{kind}{'the statistics of a norm' if statistics else 'a weight'} ({name})"
        raise Diverged(_said(f"{what} became NaN or infinite", step, saved, advice))


def _said(what: str, step: int, saved: Path | None, advice: str) -> str:
    there = saved is not None and saved.is_file()
    kept = f"{saved} holds the last good state" if there else "nothing was saved"
    return f"{what} at step {step}: {advice}; {kept}"


def _first_unsound(state: Mapping[str, Tensor]) -> str | None:
    floats = {name: t for name, t in state.items() if t.is_floating_point() and t.numel()}
    if not floats:
        return None
    # A maximum passes NaN on, and no sum can overflow.
    peaks = torch.stack([p.float() for p in torch._foreach_norm([*floats.values()], math.inf)])
    if bool(peaks.isfinite().all()):
        return None
    return next(
        n for n, peak in zip(floats, peaks.tolist(), strict=True) if not math.isfinite(peak)
    )
