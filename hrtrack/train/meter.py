"""How a training goes, between two rows of its log."""

from __future__ import annotations

import time

import torch
from torch import Tensor


class Meter:
    """Loss, gradient and speed since the last row."""

    def __init__(self, seen: int) -> None:
        self.waiting = 0.0
        self._reset(seen)

    def _reset(self, seen: int) -> None:
        self._losses: list[Tensor] = []
        self._gradient: Tensor | None = None
        self._begin, self._seen, self.waiting = time.monotonic(), seen, 0.0

    def add(self, loss: Tensor, gradient: Tensor) -> None:
        """Takes note of a step, without asking the device for the numbers yet."""
        self._losses.append(loss)
        self._gradient = gradient

    def row(self, seen: int) -> dict[str, float | int | None]:
        """The means since the last row, and the share of the time spent waiting for data."""
        passed = max(time.monotonic() - self._begin, 1e-9)
        row: dict[str, float | int | None] = {
            "loss": float(torch.stack(self._losses).mean()),
            "gradient": None if self._gradient is None else float(self._gradient),
            "images_per_second": round((seen - self._seen) / passed, 2),
            "waiting": round(self.waiting / passed, 4),
        }
        self._reset(seen)
        return row
