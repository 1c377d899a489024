"""What a training writes down as it goes: CSV, TensorBoard, a progress bar, and pictures."""

from __future__ import annotations

import csv
import time
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from torch import Tensor

from ...progress import shown
from ...skeleton import Skeleton
from .validate import Validation

TRAIN_COLUMNS = ("step", "epoch", "seen", "loss", "lr", "gradient", "images_per_second", "waiting")
VAL_COLUMNS = ("step", "epoch", "seen", "pckh", "oks")


class Table:
    """A CSV file that a resumed run goes on with where its state was saved."""

    def __init__(self, path: Path, columns: tuple[str, ...], last_step: int) -> None:
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

    def write(self, row: dict[str, float | int | None]) -> None:
        """Adds a row, on the disk at once."""
        self._writer.writerow({name: "" if v is None else v for name, v in row.items()})
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


class Logs:
    """All of a run's records; the silent twin of every process but the first is `None`."""

    def __init__(self, folder: Path, last_step: int, *, quiet: bool) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.console = Console(stderr=True, quiet=quiet)
        self._train = Table(folder / "train.csv", TRAIN_COLUMNS, last_step)
        self._val = Table(folder / "val.csv", VAL_COLUMNS, last_step)
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=last_step)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[said]}"),
            TimeRemainingColumn(),
            console=self.console,
        )
        self._shown = shown(self._progress)
        self._task = self._progress.add_task("training", total=1.0, said="")

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
        self._train.close()
        self._val.close()
        self._board.close()

    def train(self, row: dict[str, float | int | None]) -> None:
        """Records a stretch of steps."""
        self._train.write(row)
        for name in ("loss", "lr", "images_per_second"):
            self._board.add_scalar(f"train/{name}", row[name], row["step"])

    def val(self, row: dict[str, float | int | None]) -> None:
        """Records and prints a validation."""
        self._val.write(row)
        said = []
        for name in ("pckh", "oks"):
            if row[name] is not None:
                self._board.add_scalar(f"val/{name}", row[name], row["step"])
                said.append(f"{name} {row[name]:.4g}")
        self.console.print(f"epoch {row['epoch']:.2f}: {', '.join(said)}")

    def show(self, share_done: float, step: int, loss: float, images_per_second: float) -> None:
        """Moves the bar."""
        said = f"step {step}  loss {loss:.4g}  {images_per_second:.3g} images/s"
        self._progress.update(self._task, completed=share_done, said=said)


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


COLUMNS, SHOWN = 8, 16
MIN_SCORE = 0.2
LABEL = (255, 255, 255)


def save_batch(validation: Validation, skeleton: Skeleton, path: Path) -> None:
    """Draws the first crops with predicted limbs, and the labels as white rings."""
    tiles = [
        _drawn(crop, predicted, labels, skeleton)
        for crop, predicted, labels in zip(
            validation.crops[:SHOWN],
            validation.predicted[:SHOWN],
            validation.labelled[:SHOWN],
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
