"""What a training writes down as it goes: CSV, TensorBoard and a progress bar."""

from __future__ import annotations

import csv
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from .progress import shown

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
