"""The training of a pose network, from a configuration to weights."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ...configs.pose_schema import TrainConfig
from ...datasets.people import People
from ...errors import DataError, ModelError, UsageError
from ...models.checkpoints import HEAD, load_hrnet, save_weights
from ...models.info import PoseInfo, provenance
from ...models.pose.graph import pixel_scale
from ...models.pose.hrnet import HRNet
from ...models.runtimes.eight_bit import FEWEST, pose_ranges
from ...trainer.loop import Found, Task, Trainer
from ...trainer.optim import State, make_optimizer
from ...trainer.processes import Team, team
from ...trainer.schedule import Clock
from ...trainer.state import (
    ELSEWHERE,
    STATE,
    RunState,
    kept_choice,
    load_state,
    no_state,
    warn_of_changes,
)
from ...writable import atomic_write, make_folder
from .data.loader import Batch, batches, sample_crops
from .data.plan import Plan
from .data.pseudo_labels import training_people, validation_people
from .data.shards import device_crops
from .distillation import with_distillation_head
from .network import new_network
from .pictures import save_batch, save_curves
from .settle import choice_of, settle
from .step import Gradients, require_sound
from .validate import validate

LOG = logging.getLogger(__name__)
CALIBRATION_CROPS = 64
"""Shown to the finished network to find the ranges for 8 bits."""
ADVICE = "lower fit.lr, set fit.clip, or use model.init=fixup for a network without norms"
WEIGHTS = "weights.safetensors"
BEST = "best.safetensors"
SHAPING = ("model", "target", "input", "teacher", "fit.optimizer", "fit.ema")
"""What the saved network, optimiser and average are made of and for."""


def train_pose(
    config: TrainConfig,
    folder: str | Path,
    *,
    init: str | Path | None = None,
    resume: bool = False,
    device: str = "auto",
    quiet: bool = False,
    log_every: int | None = None,
    until: float = math.inf,
) -> Path:
    """Trains and writes everything into ``folder``; under `torchrun` with all its processes.

    Args:
        config: from `hrtrack.configs.pose_schema.load_config`.
        folder: gets ``weights.safetensors`` (the running average), ``best.safetensors`` (by
            validation), ``state.pt``, ``train.csv``, ``val.csv``, ``tensorboard/``,
            ``batches/`` and ``curves.png``.
        init: a checkpoint or a model's name to start from; its last layer is made anew when
            the joints differ.
        resume: go on from ``state.pt``; the outcome is that of an uninterrupted run.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        quiet: no progress bar.
        log_every: steps between two rows of the log, instead of ``fit.log_steps``.
        until: when to stop at the latest, on the clock of `time.monotonic`; the weights are then
            the average so far, and ``resume`` goes on.

    Returns:
        The path of the final weights.

    Raises:
        HrtrackError: data, configuration, checkpoint or device do not fit; one line.
    """
    people, val = training_people(config.data), validation_people(config.data)
    if val is not None and val.skeleton.joints != people.skeleton.joints:
        raise DataError(
            f"the validation set has {len(val.skeleton)} joints, the training sets "
            f"{len(people.skeleton)}, or their names differ"
        )
    folder = Path(folder)
    if not resume and (folder / STATE).exists():
        raise UsageError(
            f"{folder} already holds a training: resume it, or write to another folder"
        )
    make_folder(folder)
    with team(device) as members:
        said, state = config.model_dump(mode="json"), None
        if resume:
            state = load_state(folder, said, SHAPING)
            _require_same_joints(state, people.skeleton.joints, folder)
            if members.leads:
                warn_of_changes(state, said, folder)
        kept = kept_choice(state, said) if state is not None else None
        settled = settle(config, people, members, kept)
        require_sound(settled, members.device)
        task = PoseTask(settled, people, val, folder, members, init)
        trainer = Trainer(
            task, settled.fit, members, folder,
            config=said, choice=choice_of(settled), log_steps=log_every, until=until,
        )  # fmt: skip
        if state is not None:
            trainer.restore(state)
        trainer.go(quiet=quiet)
        if members.leads:
            task.finish(trainer)
    return folder / WEIGHTS


def _require_same_joints(state: RunState, joints: Sequence[str], folder: Path) -> None:
    path = folder / STATE
    head, named = state.network.get(HEAD + "weight"), state.facts.get("joints")
    if head is None or named is None:
        raise no_state(path)
    if len(head) != len(joints):
        raise ModelError(
            f"{path} was made for {len(head)} joints, the data have {len(joints)}; {ELSEWHERE}"
        )
    if named != list(joints):
        raise ModelError(
            f"{path} was made for the joints {', '.join(named)}, the data have "
            f"{', '.join(joints)}; {ELSEWHERE}"
        )


class PoseTask(Task[Batch]):
    """A pose network, shown crops of people."""

    advice = ADVICE
    measures = "pckh", "oks"

    def __init__(
        self,
        config: TrainConfig,
        people: People,
        val: People | None,
        folder: Path,
        members: Team,
        init: str | Path | None,
    ) -> None:
        self.config, self.people, self.val = config, people, val
        self.folder, self.team = folder, members
        torch.manual_seed(config.fit.seed)
        self.raw = new_network(config, people.skeleton, init).to(members.device)
        self.raw.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.described = PoseInfo(
            people.skeleton, config.input.size, config.target.sigma,
            dataclasses.asdict(self.raw.config), _notes(config, init),
        )  # fmt: skip
        self.distilled = with_distillation_head(self.raw, config)
        learning = self.raw if self.distilled is None else self.distilled.to(members.device)
        super().__init__(self.raw, make_optimizer(learning, config.fit))
        self.learning = members.wrap(learning, sync_norm=config.fit.sync_norm)
        scale, offset = pixel_scale()
        pixels = scale.to(members.device), offset.to(members.device)
        self._gradients = Gradients(self.learning, config, pixels, members.world)
        self._unreadable = 0
        self.batches_a_step = config.fit.accumulate
        self.epoch_size = int(people.repeats.sum())
        self.examples = config.fit.epochs * self.epoch_size
        self.val_every = config.fit.val_every
        if members.leads:
            (folder / "batches").mkdir(exist_ok=True)

    @property
    def head(self) -> nn.Module | None:
        """Guesses the teacher's features, where there is one."""
        return None if self.distilled is None else self.distilled.guess

    def source(self, clock: Clock, step: int, seen: int) -> Iterator[Batch]:
        """This process's parts of each step's batch."""
        plan = Plan(
            self.config, self.people.repeats,
            rank=self.team.rank, world=self.team.world, clock=clock,
        )  # fmt: skip
        parts = plan.parts(step, seen)
        if self.config.data.resident:
            return device_crops(self.people, self.config, self.team.device).batches(parts)
        return batches(self.people, self.config, parts, pin=self.team.device.type == "cuda")

    def gradients(self, parts: Sequence[Batch], share: float) -> tuple[Found, int]:
        """Of all parts of a batch, over all processes."""
        self.optimizer.zero_grad(set_to_none=True)
        totals, people = torch.zeros(2, device=self.team.device), 0
        for number, batch in enumerate(parts, 1):
            self._name_unreadable(batch)
            last = number == len(parts)
            totals += torch.stack(self._gradients(batch.to(self.team.device), last=last))
            people += len(batch.crops)
        totals = self.team.total(totals)
        # DDP averages gradients over processes; the loss is a mean over the whole batch.
        gradients = [p.grad for p in self.learning.parameters() if p.grad is not None]
        divisor = totals[1].clamp(min=1e-6)
        torch._foreach_mul_(gradients, self.team.world / divisor)
        limit = self.config.fit.clip or math.inf
        norm = nn.utils.clip_grad_norm_(self.raw.parameters(), limit).detach()
        return {"loss": totals[0] / divisor, "gradient": norm}, people * self.team.world

    def _name_unreadable(self, batch: Batch) -> None:
        for row in batch.unreadable:
            self._unreadable += 1
            limit = self.config.data.max_unreadable
            source = self.people.sources[self.people.source[row]]
            if self._unreadable > limit:
                raise DataError(
                    f"{self._unreadable} photos could not be read, the last "
                    f"{self.people.files[row]} in {source.where}; data.max_unreadable allows "
                    f"{limit}"
                )
            LOG.warning("skipped %s in %s: unreadable", self.people.files[row], source.where)

    def validate(self, run: Trainer[Any], place: dict[str, float | int]) -> float | None:
        """Measures the average: PCKh and OKS, of which the data's own is the score."""
        if self.val is None or run.logs is None:
            return None
        twin = HRNet(self.raw.config)
        twin.load_state_dict(run.ema.state)
        result = validate(twin, self.val, self.described, self.config, self.team.device)
        run.logs.val({**place, "pckh": result.pckh, "oks": result.oks})
        name = f"step_{run.step:07d}.png"
        save_batch(result, self.people.skeleton, self.folder / "batches" / name)
        return result.score

    def keep_best(self, run: Trainer[Any]) -> None:
        """Writes the average as the best weights so far."""
        self._write(run, BEST)

    def facts(self) -> dict[str, Any]:
        """For whom the network is, and how many photos were skipped."""
        return {"joints": list(self.people.skeleton.joints), "unreadable": self._unreadable}

    def restore(self, facts: dict[str, Any]) -> None:
        """Takes them back."""
        self._unreadable = facts["unreadable"]

    def finish(self, run: Trainer[Any]) -> None:
        """Writes the average with what CPUs need for 8 bits, and the curves."""
        self._write(run, WEIGHTS)
        crops = sample_crops(self.people, self.config, CALIBRATION_CROPS)
        if len(crops) < FEWEST:
            LOG.warning("only %d photos could be read: no ranges for 8 bits", len(crops))
        for name in (WEIGHTS, BEST):
            if len(crops) >= FEWEST and (self.folder / name).exists():
                add_ranges(self.folder / name, crops, self.team.device, half=self._half)
        try:
            save_curves(self.folder, self.config.name)
        except ImportError:  # the figures are in the CSV files
            LOG.warning("no package matplotlib: curves.png is not drawn")

    @property
    def _half(self) -> bool:
        return self.config.fit.store == "fp16"

    def _write(self, run: Trainer[Any], name: str) -> None:
        path = self.folder / name
        save_average(self.raw, run.ema.state, self.described, path, half=self._half)


def _notes(config: TrainConfig, init: str | Path | None) -> dict[str, str]:
    begun = {} if init is None else {"init": Path(init).name}
    computed = {"precision": config.fit.precision}
    return {"training": config.name, **begun, **computed, **provenance(config.fit.seed)}


def save_average(
    network: HRNet, average: State, described: PoseInfo, path: Path, *, half: bool = False
) -> None:
    """Writes averaged weights as safetensors, in float16 if ``half``; ``network`` is left as it
    was."""
    twin = HRNet(network.config)
    twin.load_state_dict(average)
    with atomic_write(path) as part:
        save_weights(twin, described, part, half=half)


def add_ranges(
    path: Path, crops: NDArray[np.uint8], device: torch.device, *, half: bool = False
) -> None:
    """Writes into a file of weights what lets CPUs compute with them in 8 bits.

    ``crops`` (N, H, W, 3) uint8 RGB are what the network is to see; ``half`` as for
    `save_average`.
    """
    network, described = load_hrnet(path)
    ranges = pose_ranges(network.to(device), described, crops)
    with atomic_write(path) as part:
        save_weights(network.cpu(), described, part, half=half, ranges=ranges)
