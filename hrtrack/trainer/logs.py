"""What a training writes down as it goes: CSV, TensorBoard, and a progress bar."""

from __future__ import annotations

import csv
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from torch import Tensor

from ..progress import shown

LOG = logging.getLogger(__name__)
TRAIN_COLUMNS = (
    "step", "share", "epoch", "seen", "loss", "lr", "gradient", "images_per_second", "waiting",
)  # fmt: skip
VAL_COLUMNS = "step", "epoch", "seen"
Row = Mapping[str, float | int | None]


class Table:
    """A CSV file that a resumed run goes on with where its state was saved."""

    def __init__(self, path: Path, columns: Sequence[str], last_step: int) -> None:
        """Keeps rows up to ``last_step`` of an existing file."""
        kept = []
        if last_step > 0 and path.is_file():
            with path.open(newline="") as file:
                kept = [r for r in csv.DictReader(file) if int(r["step"] or 0) <= last_step]
        self._file = path.open("w", newline="")
        self._writer = csv.DictWriter(self._file, columns, extrasaction="ignore")
        self._writer.writeheader()
        self._writer.writerows(kept)
        self._file.flush()

    def write(self, row: Row) -> None:
        """Adds a row, on the disk at once."""
        self._writer.writerow({name: "" if v is None else v for name, v in row.items()})
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


class Logs:
    """All of a run's records: the bar, and in ``folder``, where one is given, the files.

    Args:
        folder: gets ``train.csv``; ``val.csv`` where there are ``measures``; and ``tensorboard/``
            where that package is installed.
        last_step: rows beyond it are dropped.
        title: of the bar.
        parts: of the loss, columns of ``train.csv``.
        measures: of a validation, columns of ``val.csv``.
        quiet: no bar.
    """

    def __init__(
        self, folder: Path | None, last_step: int, *, title: str, parts: Sequence[str] = (),
        measures: Sequence[str] = (), quiet: bool = False,
    ) -> None:  # fmt: skip
        self.console = Console(stderr=True, quiet=quiet)
        self._train = self._val = self._board = None
        self._measures = measures
        if folder is not None:
            self._train = Table(folder / "train.csv", (*TRAIN_COLUMNS, *parts), last_step)
            if measures:
                self._val = Table(folder / "val.csv", (*VAL_COLUMNS, *measures), last_step)
            self._board = _board(folder / "tensorboard", last_step)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[said]}"),
            TimeRemainingColumn(),
            console=self.console,
        )
        self._shown = shown(self._progress)
        self._task = self._progress.add_task(title, total=1.0, said="")

    def __enter__(self) -> Logs:
        self._shown.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._shown.__exit__(kind, error, trace)
        for one in (self._train, self._val, self._board):
            if one is not None:
                one.close()

    def train(self, row: Row) -> None:
        """Records a stretch of steps."""
        if self._train is not None:
            self._train.write(row)
        for name in ("loss", "lr", "images_per_second"):
            if self._board is not None:
                self._board.add_scalar(f"train/{name}", row[name], row["step"])
        said = f"step {row['step']}  loss {row['loss']:.4g}"
        if row["images_per_second"]:
            said += f"  {row['images_per_second']:.3g} images/s"
        self._progress.update(self._task, completed=row["share"], said=said)

    def val(self, row: Row) -> None:
        """Records and prints a validation."""
        if self._val is not None:
            self._val.write(row)
        said = []
        for name in self._measures:
            if row[name] is not None:
                if self._board is not None:
                    self._board.add_scalar(f"val/{name}", row[name], row["step"])
                said.append(f"{name} {row[name]:.4g}")
        self.console.print(f"epoch {row['epoch']:.2f}: {', '.join(said)}")


def _board(folder: Path, last_step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        LOG.info("no package tensorboard: the training is recorded in its CSV files only")
        return None
    return SummaryWriter(str(folder), purge_step=last_step)


class Meter:
    """Loss, its parts, gradient and speed since the last row."""

    def __init__(self, seen: int) -> None:
        self._reset(seen)

    def _reset(self, seen: int) -> None:
        self._sums: dict[str, Tensor] = {}
        self._count = 0
        self._begin, self._seen, self.waiting = time.monotonic(), seen, 0.0

    def add(self, found: Mapping[str, Tensor]) -> None:
        """Takes note of a step, without asking the device for the numbers yet."""
        for name, value in found.items():
            self._sums[name] = self._sums[name] + value if name in self._sums else value
        self._count += 1

    def row(self, seen: int) -> dict[str, float]:
        """The means since the last row, and the share of the time spent waiting for data."""
        passed = max(time.monotonic() - self._begin, 1e-9)
        means = torch.stack([v.float() for v in self._sums.values()]).div(self._count).tolist()
        row = {
            **dict(zip(self._sums, means, strict=True)),
            "images_per_second": round((seen - self._seen) / passed, 2),
            "waiting": round(self.waiting / passed, 4),
        }
        self._reset(seen)
        return row
