"""What a detector training writes down."""

from __future__ import annotations

import csv
import time
from pathlib import Path

from torch import Tensor

from ..diverged import require_numbers

LAST = "last.pt"
"""A training's state, which lies beside its log."""


class Log:
    """Means over ``every`` steps as rows of a CSV file that a resumed run continues."""

    def __init__(self, path: Path, every: int) -> None:
        self.path, self.every = path, every
        self.loss = ""
        self._sums: dict[str, Tensor] = {}
        self._count = self._images = 0
        self._since = time.monotonic()

    def add(self, step: int, done: float, images: int, parts: dict[str, Tensor]) -> None:
        """Takes note of a step, without waiting for the device unless a row is written."""
        for key, value in parts.items():
            self._sums[key] = self._sums[key] + value if key in self._sums else value
        self._count += 1
        self._images += images
        if self._count < self.every:
            return
        check(parts, step, self.path.with_name(LAST))
        now = time.monotonic()
        row = {
            "step": step,
            "done": round(done, 5),
            "images_per_second": round(self._images / (now - self._since), 1),
            **{key: round(float(value) / self._count, 4) for key, value in self._sums.items()},
        }
        self.loss = f"loss {row['loss']:.2f}"
        new = not self.path.is_file()
        with self.path.open("a", newline="") as file:
            writer = csv.DictWriter(file, list(row))
            if new:
                writer.writeheader()
            writer.writerow(row)
        self._sums, self._count, self._images, self._since = {}, 0, 0, now


def check(parts: dict[str, Tensor], step: int, saved: Path) -> None:
    """Waits for a step's loss and gradient; `Diverged` where they are no numbers any more."""
    require_numbers(step, float(parts["loss"]), float(parts["gradient"]), saved)
