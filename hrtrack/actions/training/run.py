"""`hrtrack train action` and `hrtrack eval action`, apart from the command line."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from ...configs.action_schema import ActionConfig
from ...errors import DataError
from ...models.info import provenance
from ...writable import make_folder
from ..clips import ActionClip, labels_of, load_penn, split
from ..info import ActionInfo
from ..recordings import cut_recordings, load_recordings
from ..tagger import Logits
from .evaluate import (
    ActionReport,
    auroc,
    evaluate,
    plot_confusion,
    plot_curves,
    predict,
    steps,
)
from .fit import Fitted, as_function, fit


def load_clips(root: Path, part: Literal["train", "test"]) -> list[ActionClip]:
    """Penn Action (a folder with ``labels/*.mat``) or own recordings: a folder of
    ``ACTION/*.jsonl``, or a label file (``.csv``, see `cut_recordings`) to cut them by.

    Own recordings have no official split: "train" and "test" give the same clips, so keep
    the recordings to test on apart. DataError when there are none.
    """
    if root.suffix.lower() == ".csv":
        with tempfile.TemporaryDirectory() as folder:
            cut_recordings(root, Path(folder))
            return load_recordings(Path(folder))
    if not root.is_dir():
        raise DataError(f"there is no folder '{root}'")
    if (root / "labels").is_dir() and any((root / "labels").glob("*.mat")):
        return load_penn(root, part)
    return load_recordings(root)


def train_action(
    config: ActionConfig, root: Path, *, seed: int = 0, show_progress: bool = True
) -> Fitted:
    """Trains on the folder's clips; a share of each action's is held out to calibrate by.

    Which clips are held out does not depend on ``seed``. DataError when there are fewer than
    two actions or an action has fewer than two clips.
    """
    clips = load_clips(root, "train")
    labels = labels_of(clips)
    if len(labels) < 2:
        raise DataError(
            f"'{root}' shows {len(labels)} action ({', '.join(labels)}); at least 2 are needed"
        )
    rest, held_out = split(clips, config.fit.held_out, seed=0)
    fitted = fit(config, rest, held_out, labels, seed, quiet=not show_progress)
    notes = {
        "data": f"{len(rest)} clips of {len(labels)} actions, {len(held_out)} held out",
        "held_out_top1": f"{fitted.held_out_accuracy:.4f}",
        **provenance(seed),
    }
    return replace(fitted, info=replace(fitted.info, notes=notes))


def eval_action(
    network: Logits,
    info: ActionInfo,
    root: Path,
    out: Path | None = None,
    *,
    curves: bool = True,
    show_progress: bool = True,
) -> ActionReport:
    """Evaluates on the test clips; writes report.json, confusion.png and curves.png to ``out``."""
    if out is not None:
        make_folder(out)
    clips = load_clips(root, "test")
    total = steps(clips, curves)
    with _bar("eval action", show_progress) as advance:
        report = evaluate(
            network, info, clips, curves=curves, step_done=lambda title: advance(total, title)
        )
    if out is not None:
        report.save(out / "report.json")
        plot_confusion(report, out / "confusion.png")
        if curves:
            plot_curves(report, out / "curves.png")
    return report


@contextlib.contextmanager
def _bar(title: str, wanted: bool) -> Iterator[Callable[[int, str], None]]:
    """A progress bar; the function moves it by one of ``total`` and says what is going on."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    from ...progress import shown

    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), Remaining())
    text = TextColumn("{task.fields[note]}")
    console = Console(stderr=True)
    with shown(Progress(*columns, text, console=console, disable=not wanted)) as progress:
        task = progress.add_task(title, total=None, note="")

        def advance(total: int, note: str) -> None:
            progress.update(task, total=total, advance=1, note=note)

        yield advance


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
    quiet: bool = True,
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
        fitted = fit(config, rest, held, known, seed, quiet=quiet)
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
