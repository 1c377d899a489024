"""The ablations of the study that hrtrack grew from: what do batch norm and ReLU do?

Henderson and Houser, "Pose Estimation", UCLA CS188, 2023, trained the official HRNet three
times: as it is, without batch norm, and without batch norm and with the identity for an
activation; one run each, and its charts' legends suggest that only a part of the network was
changed. Here the part is said (`Scope`), every variant is trained with several seeds, and
all start from the same rule, `fixup`, which leaves parts that have a norm to He's
initialisation and lets parts without one train.
"""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ...configs.pose_schema import TrainConfig
from ...errors import ConfigError
from ...evaluation.charts import COLOURS, DPI, panels_of
from ...writable import make_folder

if TYPE_CHECKING:
    from ...datasets.people import People


LOG = logging.getLogger(__name__)
Measure = Literal["PCKh@0.5", "OKS x 100"]
Scope = Literal["stem", "blocks", "all"]
DEFAULT = "default"
VARIANTS: dict[str, dict[str, str]] = {
    DEFAULT: {"norm": "batch", "activation": "relu"},
    "no batch norm": {"norm": "none", "activation": "relu"},
    "no batch norm, identity activation": {"norm": "none", "activation": "identity"},
}
RESULTS = "ablation.json"


@dataclass(frozen=True, slots=True)
class Run:
    """One training: its ``scores`` by ``measure`` on the validation set after each epoch.

    The measure is the mean PCKh@0.5 in percent, or 100 times the mean OKS where the set knows no
    head sizes.

    ``scope`` is None for the unchanged network, which serves every scope. ``failed`` holds the
    reason where the loss stopped being a number.
    """

    variant: str
    scope: Scope | None
    seed: int
    scores: tuple[float, ...]
    measure: Measure
    failed: str | None = None


def ablate(
    config: TrainConfig,
    folder: str | Path,
    *,
    epochs: int | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    scopes: Sequence[Scope] = ("stem", "blocks", "all"),
    device: str = "auto",
    quiet: bool = False,
) -> list[Run]:
    """Trains every variant with every seed and draws the study's figures.

    Args:
        config: the training to vary, with a validation set.
        folder: gets a folder for each run, ``ablation.json`` and one figure a scope. Runs that
            are found finished there are not repeated, a broken one goes on.
        epochs: instead of the configuration's.
        seeds: one run of each variant a seed.
        scopes: where norm and activation are taken out.
        device: as for `train_pose`.
        quiet: no progress bars.

    Raises:
        ConfigError: the configuration has no validation set.
        HrtrackError: whatever `train_pose` raises.
    """

    if config.data.val is None:
        raise ConfigError(f"configuration '{config.name}': ablations need data.val")
    folder = Path(folder)
    make_folder(folder)
    measure, floor = median_pose_score(config)
    if measure != "PCKh@0.5":
        LOG.warning("the validation set knows no head sizes: the runs are compared by their OKS")
    runs: list[Run] = []
    for variant, scope, seed in planned(scopes, seeds):
        varied = vary(config, variant, scope, seed, epochs)
        runs.append(
            _train(varied, folder / varied.name, variant, scope, seed, measure, device, quiet)
        )
        write_runs(runs, folder / RESULTS)
    for scope in scopes:
        plot_ablation(of_scope(runs, scope), scope, folder / f"{scope}.png", floor)
    return runs


def median_pose_score(config: TrainConfig) -> tuple[Measure, float]:
    """The score of putting the training set's median pose into every validation box: what a
    network that looks at nothing can reach. And what measures the validation set."""
    from .data.pseudo_labels import training_people, validation_people
    from .validate import mean_oks, mean_pckh

    people, val = training_people(config.data), validation_people(config.data)
    assert val is not None
    places = (people.keypoints - people.boxes[:, None, :2]) / _sides(people)
    unlabelled = (people.weights <= 0)[..., None]
    middle = np.ma.median(np.ma.array(places, mask=np.broadcast_to(unlabelled, places.shape)), 0)
    found = val.boxes[:, None, :2] + middle.filled(0.5) * _sides(val)
    pckh = mean_pckh(found, val)
    if pckh is not None:
        return "PCKh@0.5", pckh
    return "OKS x 100", 100 * mean_oks(found, val)


def _sides(people: People) -> NDArray[np.float32]:
    return (people.boxes[:, 2:] - people.boxes[:, :2])[:, None]


def planned(scopes: Sequence[Scope], seeds: Sequence[int]) -> list[tuple[str, Scope | None, int]]:
    """Variant, scope and seed of every run; seed by seed, so that an early end is of use."""
    changed = [variant for variant in VARIANTS if variant != DEFAULT]
    return [
        (variant, scope, seed)
        for seed in seeds
        for variant, scope in [(DEFAULT, None), *((v, s) for s in scopes for v in changed)]
    ]


def vary(
    config: TrainConfig, variant: str, scope: Scope | None, seed: int, epochs: int | None
) -> TrainConfig:
    """The configuration of one run, validated after every epoch."""
    values = config.model_dump()
    values["name"] = "-".join([scope or "none", variant.replace(", ", "-").replace(" ", "_"),
                               f"seed{seed}"])  # fmt: skip
    values["model"].update(VARIANTS[variant], scope=scope or "all", init="fixup")
    values["fit"].update(seed=seed, val_every=1, epochs=epochs or config.fit.epochs)
    values["fit"].update(steps=None, minutes=None)
    return TrainConfig.model_validate(values)


def of_scope(runs: Sequence[Run], scope: Scope) -> list[Run]:
    """The runs that a scope's figure shows: its own and the unchanged network's."""
    return [run for run in runs if run.scope in (None, scope)]


def write_runs(runs: Sequence[Run], path: Path) -> None:
    """Writes all runs as JSON."""
    path.write_text(json.dumps([asdict(run) for run in runs], indent=1) + "\n")


def read_runs(path: Path) -> list[Run]:
    """What `write_runs` wrote."""
    entries: list[dict[str, Any]] = json.loads(path.read_text())
    return [Run(**{**entry, "scores": tuple(entry["scores"])}) for entry in entries]


def summary(runs: Sequence[Run], scope: Scope) -> dict[str, tuple[float, float, int]]:
    """For each variant the mean and the spread (standard deviation) of the last epoch's score
    over seeds, and the number of seeds; runs that failed count with what they reached last."""
    found = {}
    for variant in VARIANTS:
        last = [run.scores[-1] if run.scores else 0.0 for run in of_scope(runs, scope)
                if run.variant == variant]  # fmt: skip
        if last:
            spread = float(np.std(last, ddof=1)) if len(last) > 1 else 0.0
            found[variant] = (float(np.mean(last)), spread, len(last))
    return found


def _train(
    config: TrainConfig,
    folder: Path,
    variant: str,
    scope: Scope | None,
    seed: int,
    measure: Measure,
    device: str,
    quiet: bool,
) -> Run:
    from ...models.finite import Diverged
    from ...trainer.state import STATE
    from .loop import train_pose

    failed = None
    try:
        train_pose(config, folder, resume=(folder / STATE).is_file(), device=device, quiet=quiet)
    except Diverged as error:  # of a variant that is a finding, not an accident
        failed = str(error)
    scores = tuple(_scores(folder / "val.csv", measure))
    return Run(variant, scope, seed, scores, measure, failed)


def _scores(path: Path, measure: Measure) -> list[float]:
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    if measure == "PCKh@0.5":
        return [float(row["pckh"]) for row in rows]
    return [100 * float(row["oks"]) for row in rows]


def plot_ablation(runs: Sequence[Run], scope: str, path: Path, floor: float | None = None) -> None:
    """Validation mean per epoch: each variant alone, and all of them together.

    Thin lines are single runs; together, lines are means over seeds and bands reach from the
    lowest to the highest seed. ``floor`` is what an answer without looking gets, a dotted line.
    """
    variants = list(dict.fromkeys(run.variant for run in runs))
    figure, panels = panels_of(len(variants) + 1)
    highest = max((max(run.scores) for run in runs if run.scores), default=1.0)
    for panel, variant, colour in zip(panels, variants, COLOURS, strict=False):
        chosen = [run for run in runs if run.variant == variant]
        for run, style in zip(chosen, ("-", "--", ":", "-.") * len(chosen), strict=False):
            epochs = np.arange(1, len(run.scores) + 1)
            said = f"seed {run.seed}" + (" (diverged)" if run.failed else "")
            panel.plot(epochs, run.scores, style, color=colour, marker="o", ms=3, lw=1, label=said)
        panel.set_title(variant, fontsize=10)
        _together(panels[-1], chosen, variant, colour)
    panels[-1].set_title("all together", fontsize=10)
    for panel in panels:
        if floor is not None:
            panel.axhline(floor, color="0.5", linestyle=":", lw=1, label="median pose")
        panel.set(xlabel="epoch", ylim=(0, 1.6 * highest))
        panel.grid(alpha=0.3)
        panel.legend(fontsize=8, loc="upper left")
    panels[0].set_ylabel("validation, mean " + " / ".join({run.measure for run in runs}))
    figure.suptitle(f"Batch norm and activation taken out of: {scope}")
    figure.savefig(path, dpi=DPI)


def _together(panel: Any, runs: Sequence[Run], variant: str, colour: str) -> None:
    begun = [run.scores for run in runs if run.scores]
    if not begun:
        return
    length = min(len(scores) for scores in begun)
    scores = np.array([each[:length] for each in begun])
    epochs = np.arange(1, length + 1)
    panel.plot(epochs, scores.mean(axis=0), color=colour, marker="o", ms=3, label=variant)
    panel.fill_between(epochs, scores.min(axis=0), scores.max(axis=0), color=colour, alpha=0.2)
