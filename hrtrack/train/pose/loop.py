"""The training of a pose network, from a configuration to weights."""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...configs.pose_schema import TrainConfig
from ...datasets.people import People
from ...errors import DataError, UsageError
from ...interrupt import shield
from ...models.finite import require_numbers, require_sound_state
from ...models.info import PoseInfo, provenance
from ...models.pose.graph import pixel_scale
from ...models.pose.hrnet import HRNet
from ...models.runtimes.eight_bit import FEWEST
from ...trainer.optim import Ema, make_optimizer
from ...trainer.processes import Team, team
from ...trainer.schedule import settings_at
from ...writable import make_folder
from .data.crop_cache import CropCache
from .data.loader import Batch, batches, sample_crops
from .data.plan import Plan
from .data.pseudo_labels import open_people
from .distillation import with_distillation_head
from .logs import Logs, Meter, save_batch, save_curves
from .network import new_network
from .run_state import (
    BEST,
    STATE,
    WEIGHTS,
    RunState,
    add_ranges,
    kept_choice,
    load_state,
    save_average,
    save_state,
    warn_of_changes,
)
from .settle import choice_of, settle
from .step import Gradients, require_sound
from .validate import validate

LOG = logging.getLogger(__name__)
CALIBRATION_CROPS = 64
"""Shown to the finished network to find the ranges for 8 bits."""
ADVICE = "lower fit.lr, set fit.clip, or use model.init=fixup for a network without norms"
FEW_STEPS = 20
"""Steps between two rows of the log, so that a GPU is not asked for its loss at each."""


def train_pose(
    config: TrainConfig,
    folder: str | Path,
    *,
    init: str | Path | None = None,
    resume: bool = False,
    device: str = "auto",
    quiet: bool = False,
    log_every: int = FEW_STEPS,
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
        log_every: steps between two rows of the log.

    Returns:
        The path of the final weights.

    Raises:
        HrtrackError: data, configuration, checkpoint or device do not fit; one line.
    """
    people = open_people(config.data, config.data.train)
    val = open_people(config.data, [config.data.val]) if config.data.val else None
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
            state = load_state(folder, said, people.skeleton.joints)
            if members.leads:
                warn_of_changes(state, said, folder)
        kept = kept_choice(state, said) if state is not None else None
        settled = settle(config, people, members, kept)
        require_sound(settled, members.device)
        run = _Run(settled, said, people, val, folder, members, init)
        if state is not None:
            run.restore(state)
        run.go(quiet, log_every)
    return folder / WEIGHTS


class _Run:
    """The parts of one training, put together once."""

    def __init__(
        self,
        config: TrainConfig,
        asked: dict[str, Any],
        people: People,
        val: People | None,
        folder: Path,
        members: Team,
        init: str | Path | None,
    ) -> None:
        self.config, self.asked, self.people, self.val = config, asked, people, val
        self.folder, self.team = folder, members
        torch.manual_seed(config.fit.seed)
        self.raw = new_network(config, people.skeleton, init).to(members.device)
        self.raw.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.ema = Ema(self.raw, config.fit.ema)
        self.described = PoseInfo(
            people.skeleton, config.input.size, config.target.sigma,
            dataclasses.asdict(self.raw.config), _notes(config, init),
        )  # fmt: skip
        self.distilled = with_distillation_head(self.raw, config)
        learning = self.raw if self.distilled is None else self.distilled.to(members.device)
        self.network = members.wrap(learning, sync_norm=config.fit.sync_norm)
        self.optimizer = make_optimizer(learning, config.fit)
        scale, offset = pixel_scale()
        pixels = scale.to(members.device), offset.to(members.device)
        self.gradients = Gradients(self.network, config, pixels, members.world)
        self.step = self.seen = self.unreadable = 0
        self.best, self.elapsed = -1.0, 0.0

    def restore(self, state: RunState) -> None:
        """Puts everything back to where ``state`` was saved."""
        self.raw.load_state_dict(state.network)
        self.optimizer.load_state_dict(state.optimizer)
        if self.distilled is not None:
            self.distilled.load_state_dict(state.pupil, strict=False)
        for name, value in state.average.items():
            self.ema.state[name].copy_(value)
        self.step, self.seen, self.unreadable = state.step, state.seen, state.unreadable
        self.best, self.elapsed = state.best, state.elapsed

    def go(self, quiet: bool, log_every: int) -> None:
        """Trains to the end."""
        plan = Plan(
            self.config, self.people.repeats,
            rank=self.team.rank, world=self.team.world, elapsed=self.elapsed,
        )  # fmt: skip
        if not self.team.leads:
            self._steps(plan, None, log_every)
            return
        (self.folder / "batches").mkdir(exist_ok=True)
        with Logs(self.folder, self.step, quiet=quiet) as logs:
            before = self.step
            try:
                self._steps(plan, logs, log_every)
            except KeyboardInterrupt:
                if self.step > before:
                    self.elapsed = plan.elapsed
                    self._save()
                    LOG.warning("stopped at step %d, which is saved: --resume goes on", self.step)
                raise
        save_average(self.raw, self.ema.state, self.described, self.folder / WEIGHTS)
        crops = sample_crops(self.people, self.config, CALIBRATION_CROPS)
        if len(crops) < FEWEST:
            LOG.warning("only %d photos could be read: no ranges for 8 bits", len(crops))
        for name in (WEIGHTS, BEST):
            if len(crops) >= FEWEST and (self.folder / name).exists():
                add_ranges(self.folder / name, crops, self.team.device)
        save_curves(self.folder, self.config.name)

    def _steps(self, plan: Plan, logs: Logs | None, log_every: int) -> None:
        self._require_sound_state()  # of what it starts from
        fit, saved, kept = self.config.fit, time.monotonic(), self.step
        source = self._source(plan)
        meter, epoch = Meter(self.seen), 0.0
        while (done := plan.share_done(self.step, self.seen)) < 1:
            rate = settings_at(fit, self.step, done)["lr"]
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            try:
                with shield():
                    loss, gradient, people = self._step(source, meter)
                    self.step += 1
                    epoch_before, self.seen = self.seen // plan.epoch_size, self.seen + people
                    self.ema.update(self.raw, self.step)
            except StopIteration:  # the loader, which works ahead, saw the clock run out first
                break
            epochs = self.seen // plan.epoch_size
            meter.add(loss, gradient)
            done = plan.share_done(self.step, self.seen)
            ended = done >= 1
            epoch = round(self.seen / plan.epoch_size, 4)
            place = {"step": self.step, "epoch": epoch, "seen": self.seen}
            if logs is not None and (ended or self.step % log_every == 0):
                row = meter.row(self.seen)
                self._require_numbers(float(row["loss"] or 0), float(row["gradient"] or 0))
                self._require_sound_state()
                logs.train({**place, "lr": rate, **row})
                speed = float(row["images_per_second"] or 0)
                logs.show(done, self.step, float(row["loss"] or 0), speed)
            passed = epochs > epoch_before
            if ended or (passed and epochs % fit.val_every == 0):
                self._validate(logs, place)
            late = time.monotonic() - saved >= 60 * fit.save_minutes
            if logs is not None and (passed or ended or late):
                self.elapsed, kept = plan.elapsed, self.step
                self._save()
                saved = time.monotonic()
        if logs is not None and kept != self.step:  # the clock ran out between two looks at it
            self._validate(logs, {"step": self.step, "epoch": epoch, "seen": self.seen})
            self._save()

    def _source(self, plan: Plan) -> Iterator[Batch]:
        parts = plan.parts(self.step, self.seen)
        if self.config.data.resident:
            return CropCache.of(self.people, self.config, self.team.device).batches(parts)
        return batches(self.people, self.config, parts, pin=self.team.device.type == "cuda")

    def _step(self, source: Iterator[Batch], meter: Meter) -> tuple[Tensor, Tensor, int]:
        """One optimiser step; the loss, the gradient's norm and the people of all processes."""
        fit, device = self.config.fit, self.team.device
        self.optimizer.zero_grad(set_to_none=True)
        totals, people = torch.zeros(2, device=device), 0
        for part in range(fit.accumulate):
            begin = time.monotonic()
            batch = next(source)
            meter.waiting += time.monotonic() - begin
            self._name_unreadable(batch)
            batch = batch.to(device)
            last = part == fit.accumulate - 1
            totals += torch.stack(self.gradients(batch, last=last))
            people += len(batch.crops)
        totals = self.team.total(totals)
        # DDP averages gradients over processes; the loss is a mean over the whole batch.
        gradients = [p.grad for p in self.network.parameters() if p.grad is not None]
        factor = self.team.world / totals[1].clamp(min=1e-6)
        torch._foreach_mul_(gradients, factor)
        norm = nn.utils.clip_grad_norm_(self.raw.parameters(), fit.clip or math.inf).detach()
        loss = totals[0] / totals[1].clamp(min=1e-6)
        if device.type == "cpu":  # which need not be waited for
            self._require_numbers(float(loss), float(norm), ahead=1)
        self.optimizer.step()
        return loss, norm, people * self.team.world

    def _require_numbers(self, loss: float, gradient: float, ahead: int = 0) -> None:
        step = self.step + ahead
        require_numbers(step, loss, gradient, self.folder / STATE, advice=ADVICE)

    def _require_sound_state(self) -> None:
        require_sound_state(
            self.step, self.raw.state_dict(), self.ema.state, self.folder / STATE, advice=ADVICE
        )

    def _name_unreadable(self, batch: Batch) -> None:
        for row in batch.unreadable:
            self.unreadable += 1
            limit = self.config.data.max_unreadable
            source = self.people.sources[self.people.source[row]]
            if self.unreadable > limit:
                raise DataError(
                    f"{self.unreadable} photos could not be read, the last {self.people.files[row]}"
                    f" in {source.where}; data.max_unreadable allows {limit}"
                )
            LOG.warning("skipped %s in %s: unreadable", self.people.files[row], source.where)

    def _validate(self, logs: Logs | None, place: dict[str, float | int]) -> None:
        if self.val is not None and logs is not None:
            self._require_sound_state()
            twin = HRNet(self.raw.config)
            twin.load_state_dict(self.ema.state)
            result = validate(twin, self.val, self.described, self.config, self.team.device)
            logs.val({**place, "pckh": result.pckh, "oks": result.oks})
            name = f"step_{self.step:07d}.png"
            save_batch(result, self.people.skeleton, self.folder / "batches" / name)
            if result.score > self.best:
                self.best = result.score
                save_average(self.raw, self.ema.state, self.described, self.folder / BEST)
        self.team.wait()

    def _save(self) -> None:
        self._require_sound_state()
        state = RunState(
            network=self.raw.state_dict(),
            average=self.ema.state,
            optimizer=self.optimizer.state_dict(),
            config=self.asked,
            choice=choice_of(self.config),
            step=self.step,
            seen=self.seen,
            elapsed=self.elapsed,
            best=self.best,
            unreadable=self.unreadable,
            joints=list(self.people.skeleton.joints),
            pupil={} if self.distilled is None else self.distilled.own(),
        )
        save_state(state, self.folder)


def _notes(config: TrainConfig, init: str | Path | None) -> dict[str, str]:
    begun = {} if init is None else {"init": Path(init).name}
    computed = {"precision": config.fit.precision}
    return {"training": config.name, **begun, **computed, **provenance(config.fit.seed)}
