"""Trains a pose network from packs on a borrowed GPU, by the clock (docs/gpu_training.md).

    python scripts/gpu_train.py --packs DIR --output OUT --minutes 9.5 [--part 0 0.4]
        [--init weights.safetensors] [--state ../state.pt]

Needs torch, numpy, OpenCV and safetensors only, and onnx where the packs name a teacher. Everything
stays on the device. Writes the running
average as OUT/weights.safetensors in float16 every --save-minutes and at the end, and
OUT/log.csv. --part says which stretch of the learning rate's schedule this call covers, so that
several calls make one training: the next one starts from --state (everything, where the machine
still has the file) or else from --init (the averaged weights that came back).
"""

import argparse
import csv
import dataclasses
import json
import pickle
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hrtrack.errors import HrtrackError, ModelError
from hrtrack.models.checkpoints import load_weights, save_weights
from hrtrack.models.info import from_metadata
from hrtrack.models.pose.graph import pixel_scale
from hrtrack.models.pose.hrnet import HRNet, HRNetConfig, initialise
from hrtrack.train.pose.data.crop_cache import CropCache
from hrtrack.train.pose.data.loader import Batch
from hrtrack.train.pose.data.plan import Plan
from hrtrack.train.pose.data.shards import ShardedPeople, read_shards
from hrtrack.train.pose.distillation import DistilledNetwork, Teacher
from hrtrack.train.pose.step import batch_loss
from hrtrack.trainer.cuda_graphs import CudaGraphCache
from hrtrack.trainer.optim import Ema, make_optimizer
from hrtrack.trainer.schedule import settings_at
from hrtrack.writable import atomic_write

STARTED = time.monotonic()
LOOK_EVERY = 20
"""Steps between two looks at clock and loss: each look waits for the device."""
CLOSING_SECONDS = 20.0
LOG_SECONDS = 10.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--packs", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=9.5, help="after the imports, all in all")
    parser.add_argument("--steps", type=int, help="end after so many, however long they take")
    parser.add_argument("--part", type=float, nargs=2, default=(0.0, 1.0), metavar=("FROM", "TO"))
    parser.add_argument("--init", type=Path)
    parser.add_argument("--state", type=Path)
    parser.add_argument("--batch", type=int, help="instead of the configuration's")
    parser.add_argument("--save-minutes", type=float, default=2.0)
    parser.add_argument("--device", default="cuda")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    torch.backends.cudnn.benchmark = True
    try:
        Training(options).run()
    except HrtrackError as error:
        sys.exit(str(error))


def namespace(value: Any) -> Any:
    """A configuration's sections as attributes, as the training's parts read them."""
    if isinstance(value, dict):
        return SimpleNamespace(**{key: namespace(one) for key, one in value.items()})
    return tuple(namespace(one) for one in value) if isinstance(value, list) else value


class Training:
    """One call's share of a training."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.device = options, torch.device(options.device)
        plan = json.loads((options.packs / "plan.json").read_text())
        described = from_metadata(plan, options.packs / "plan.json")
        if described is None:
            raise ModelError(f"{options.packs}/plan.json does not describe a network")
        self.config = config = namespace(plan["config"])
        config.fit.minutes, config.fit.stages, config.fit.accumulate = 1e6, (), 1
        config.fit.batch = options.batch or config.fit.batch
        kept, labels = read_shards(sorted(options.packs.glob("train_*.npz")), self.device)
        self.people = CropCache(kept, described.skeleton, config)
        self.val = None
        if held_out := sorted(options.packs.glob("val_*.npz")):
            self.val = ShardedPeople(*read_shards(held_out, self.device), described, config)
        torch.manual_seed(config.fit.seed)
        self.raw = HRNet(HRNetConfig(**dict(tupled(described.config)))).to(self.device)
        initialise(self.raw, config.model.init)
        self.raw.to(memory_format=torch.channels_last)
        notes = {"training": config.name, "seed": str(config.fit.seed), "packs": "gpu_train"}
        self.described = dataclasses.replace(described, notes=notes)
        if options.init is not None:
            self.raw.load_state_dict(weights_of(options.init, self.raw))
        self.ema = Ema(self.raw, config.fit.ema)
        self.teacher, self.learner = None, self.raw
        if config.teacher is not None:
            file = options.packs / config.teacher.model
            self.teacher = Teacher(file, self.raw.config.joints, self.device)
            self.learner = DistilledNetwork(self.raw, self.teacher.channels).to(self.device)
        self.optimizer = make_optimizer(self.learner, config.fit)
        scale, offset = pixel_scale()
        self.pixels = scale.to(self.device), offset.to(self.device)
        self.compute = self.recorded() if self.device.type == "cuda" else self.gradients
        self.step = self.seen = 0
        if options.state is not None and options.state.is_file():
            self.restore(options.state)
        # A later part must not draw the crops of an earlier one again.
        repeats = labels.repeats
        self.first = round(1e4 * options.part[0]) * int(repeats.sum())
        self.plan = Plan(config, repeats)
        print(f"{len(repeats)} people on {self.device} after {passed():.0f} s", flush=True)

    def restore(self, path: Path) -> None:
        """Everything that an earlier call on the same machine left."""
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
            self.learner.load_state_dict(state["learner"])
            self.optimizer.load_state_dict(state["optimizer"])
            for name, value in state["average"].items():
                self.ema.state[name].copy_(value)
            self.step, self.seen = state["step"], state["seen"]
        except (KeyError, RuntimeError, ValueError, OSError, pickle.UnpicklingError) as error:
            reason = str(error).splitlines()[0]
            raise ModelError(f"cannot go on from {path} with these packs: {reason}") from None

    def run(self) -> None:
        """Trains until the time is up, looking at the clock every few steps."""
        options, fit = self.options, self.config.fit
        source = self.people.batches(self.plan.parts(0, self.first + self.seen))
        done = self.progress()
        with Log(options.output / "log.csv", self.seen) as log:
            saved, begun = passed(), self.step
            # At least one look, however long the packs took to read.
            while (share := done()) < 1 or self.step == begun:
                place = options.part[0] + share * (options.part[1] - options.part[0])
                losses = []
                for _ in range(LOOK_EVERY if self.device.type == "cuda" else 1):
                    rate = settings_at(fit, self.step, place)["lr"]
                    losses.append(self.learn(next(source), rate))
                # Reading the losses waits for the device, which may not run far behind the clock.
                if log.add(torch.stack(losses).tolist(), self.step, self.seen, place):
                    raise ModelError("the loss became NaN; the last save is good")
                if passed() - saved > 60 * options.save_minutes and done() < 1:
                    log.say(f"{passed():.0f} s: PCKh@0.5 {self.save()}")
                    saved = passed()
            log.write()
            score = self.save()
        print(f"done after {passed():.0f} s: {self.seen} crops seen, PCKh@0.5 {score or '-'}")

    def progress(self) -> Callable[[], float]:
        """How much of this call is behind us, in [0, 1], by the clock or in steps."""
        limit, first, begin = 60 * self.options.minutes, self.step, passed()
        end = limit - min(CLOSING_SECONDS, 0.2 * limit)
        if self.options.steps is not None:
            return lambda: (self.step - first) / self.options.steps
        return lambda: min((passed() - begin) / max(end - begin, 1e-9), 1.0)

    def learn(self, batch: Batch, rate: float) -> torch.Tensor:
        """One step; the loss stays on the device."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        loss = self.compute(batch)
        self.optimizer.step()
        self.step += 1
        self.seen += len(batch.crops)
        self.ema.update(self.raw, self.step)
        return loss

    def gradients(self, batch: Batch) -> torch.Tensor:
        """Loss and clipped gradients of one batch."""
        self.optimizer.zero_grad(set_to_none=True)
        if self.teacher is not None:
            features, teacher_heatmaps = self.teacher(batch.crops)
            batch = dataclasses.replace(batch, features=features, teacher_heatmaps=teacher_heatmaps)
        total, divisor = batch_loss(self.learner, batch, self.config, self.pixels)
        loss = total / divisor.clamp(min=1e-6)
        loss.backward()
        if self.config.fit.clip:
            torch.nn.utils.clip_grad_norm_(self.learner.parameters(), self.config.fit.clip)
        return loss.detach()

    def recorded(self) -> Callable[[Batch], torch.Tensor]:
        """The same as one CUDA graph; as it is where the GPU will not."""
        recordings = CudaGraphCache([self.learner], Log.say)

        def compute(batch: Batch) -> torch.Tensor:
            def step(*tensors: torch.Tensor) -> dict[str, torch.Tensor]:
                return {"loss": self.gradients(batch.with_tensors(tensors))}

            return recordings(step, batch.tensors())["loss"]

        return compute

    def save(self) -> str:
        """Validates and writes the average (and the state); the PCKh, "" where there is none."""
        twin = HRNet(self.raw.config).to(self.device)
        twin.load_state_dict(self.ema.state)
        path = self.options.output / "weights.safetensors"
        with atomic_write(path) as part:
            save_weights(twin, self.described, part, half=True)
        if self.options.state is not None:
            state = {"learner": self.learner.state_dict(), "average": self.ema.state,
                     "optimizer": self.optimizer.state_dict(), "step": self.step,
                     "seen": self.seen}  # fmt: skip
            with atomic_write(self.options.state) as part:
                torch.save(state, part)
        if self.val is None:
            return ""
        pckh, oks = self.val(twin)
        return f"{pckh:.2f}" if pckh is not None else f"oks {oks:.3f}"


class Log:
    """A row of log.csv and a line of output every few seconds."""

    def __init__(self, path: Path, seen: int) -> None:
        self.file = path.open("w", newline="")
        self.rows = csv.writer(self.file)
        self.rows.writerow(("step", "seen", "share", "seconds", "loss", "images_per_second"))
        self.losses: list[float] = []
        self.now = 0, seen, 0.0
        self.began, self.seen = passed(), seen

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()

    def add(self, losses: list[float], step: int, seen: int, share: float) -> bool:
        """Takes note; true when a loss is NaN or infinite."""
        self.losses += losses
        self.now = step, seen, share
        if passed() - self.began > LOG_SECONDS:
            self.write()
        return not np.isfinite(losses).all()

    def write(self) -> None:
        """What was noted since the last row."""
        if not self.losses:
            return
        (step, seen, share), now = self.now, passed()
        loss = float(np.mean(self.losses))
        speed = (seen - self.seen) / max(now - self.began, 1e-9)
        self.rows.writerow(
            (step, seen, f"{share:.4f}", f"{now:.0f}", f"{loss:.4f}", f"{speed:.1f}")
        )
        self.file.flush()
        self.say(f"{now:.0f} s: step {step}, loss {loss:.4f}, {speed:.0f} images/s")
        self.losses, self.began, self.seen = [], now, seen

    @staticmethod
    def say(text: str) -> None:
        """Prints it at once, for a command that may be cut off."""
        print(text, flush=True)


def weights_of(path: Path, network: HRNet) -> dict[str, torch.Tensor]:
    """A checkpoint that fits the network; ModelError names what does not."""
    weights, _ = load_weights(path)
    for name, value in network.state_dict().items():
        found = tuple(weights[name].shape) if name in weights else "missing"
        if found != tuple(value.shape) and not name.endswith("num_batches_tracked"):
            raise ModelError(f"{path}: {name} is {found}, expected {tuple(value.shape)}")
    return {name: weights.get(name, value) for name, value in network.state_dict().items()}


def tupled(fields: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """JSON knows lists only."""
    return ((key, tuple(v) if isinstance(v, list) else v) for key, v in fields.items())


def passed() -> float:
    """Seconds since the program started."""
    return time.monotonic() - STARTED


if __name__ == "__main__":
    main()
