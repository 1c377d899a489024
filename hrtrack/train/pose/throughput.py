"""Does the training wait for its data? Loader alone, network alone, and both."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from ...configs.pose_schema import TrainConfig
from ...models.pose.graph import pixel_scale
from ...trainer.optim import make_optimizer
from ...trainer.processes import team
from .data.loader import Batch, batches
from .data.plan import Plan, last_stage
from .data.pseudo_labels import training_people
from .data.shards import device_crops
from .distillation import with_distillation_head
from .network import new_network
from .settle import settle
from .step import Gradients, require_sound


@dataclass(frozen=True, slots=True)
class Throughput:
    """Images per second: ``loader`` only makes batches, ``model`` trains on one batch again and
    again, ``real`` does both as a training does. ``size`` is the crops' height and width."""

    loader: float
    model: float
    real: float
    size: tuple[int, int]
    batch: int
    device: str
    precision: str

    @property
    def kept(self) -> float:
        """The share of the slower part's rate that the training reaches; 1 means that loading
        and learning run side by side and neither costs the other anything."""
        return self.real / min(self.loader, self.model)

    def __str__(self) -> str:
        height, width = self.size
        slower = "the network" if self.model < self.loader else "the data"
        return (
            f"crops of {height}x{width}, {self.batch} at a time, on {self.device} in "
            f"{self.precision}\n"
            f"loader alone   {self.loader:9.1f} images/s\n"
            f"network alone  {self.model:9.1f} images/s\n"
            f"training       {self.real:9.1f} images/s, {self.kept:.0%} of what {slower} allows"
        )


def measure_throughput(
    config: TrainConfig,
    *,
    init: str | Path | None = None,
    device: str = "auto",
    seconds: float = 10.0,
) -> Throughput:
    """Runs each of the three for about ``seconds`` on a network that is thrown away.

    Of a training in stages the last is measured, and ``init`` is what it would start from. One
    process only: its share of the batch is the whole.

    Raises:
        HrtrackError: as for `hrtrack.train.pose.loop.train_pose`.
    """
    people = training_people(config.data)
    config = last_stage(config)
    with team(device) as members:
        place = members.device
        config = settle(config, people, members)
        require_sound(config, place)
        network = new_network(config, people.skeleton, init).to(place)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        distilled = with_distillation_head(network, config)
        learning = network if distilled is None else distilled.to(place)
        optimizer = make_optimizer(learning, config.fit)
        scale, offset = pixel_scale()
        gradients = Gradients(learning, config, (scale.to(place), offset.to(place)))
        resident = device_crops(people, config, place) if config.data.resident else None

        def source() -> Iterator[Batch]:
            forever = Plan(config, people.repeats).parts(0, 0)
            if resident is not None:
                return resident.batches(forever)
            return batches(people, config, forever, pin=place.type == "cuda")

        def learn(batch: Batch) -> None:
            optimizer.zero_grad(set_to_none=True)
            _, divisor = gradients(batch.to(place))
            found = [p.grad for p in learning.parameters() if p.grad is not None]
            torch._foreach_mul_(found, 1 / divisor.clamp(min=1e-6))
            optimizer.step()

        one = next(source())
        return Throughput(
            loader=_rate(source(), lambda batch: None, seconds, place),
            model=_rate(itertools.repeat(one), learn, seconds, place),
            real=_rate(source(), learn, seconds, place),
            size=config.input.size,
            batch=config.fit.batch // config.fit.accumulate,
            device=str(place),
            precision=config.fit.precision,
        )


def _rate(
    source: Iterator[Batch], use: Callable[[Batch], None], seconds: float, device: torch.device
) -> float:
    use(next(source))
    _finish(device)
    begin, count = time.monotonic(), 0
    while count == 0 or time.monotonic() - begin < seconds:
        batch = next(source)
        use(batch)
        count += len(batch.crops)
    _finish(device)
    return count / (time.monotonic() - begin)


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
