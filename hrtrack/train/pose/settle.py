"""What a pose training leaves to the machine that it begins on.

Whether bfloat16 is quicker, in how many parts a batch fits into the memory, and how many processes
load. The first two have a part in the outcome, so a resumed training keeps them.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ...datasets.people import People
from ...errors import ConfigError
from ...models.pose.graph import pixel_scale
from ...models.precision import Precision, in_bf16, quicker, to_be_tried
from ...trainer.processes import WORKER_BYTES, Team, free_memory, loaders
from .data.loader import Batch, batches
from .data.plan import Plan, last_stage
from .distillation import with_distillation_head
from .network import new_network
from .step import batch_loss, miscomputed

if TYPE_CHECKING:
    from ...configs.pose_schema import TrainConfig

LOG = logging.getLogger(__name__)
TRIAL_PIXELS = 16 * 192 * 128
"""Of all crops of a trial together, so that it takes seconds with large networks, too."""
USABLE = 0.7
"""The share of the free memory that a step may fill."""
OVER_SAVED = 1.75
"""A step's peak over what its forward pass keeps for the backward pass: 1.3 was measured for the
official network, 1.7 for a small one."""
SIDE = 64
"""Crops of which memory is measured; it grows with the pixels."""
Choice = Mapping[str, str | int]


def settle(
    config: TrainConfig, people: People, members: Team, kept: Choice | None = None
) -> TrainConfig:
    """The configuration with ``fit.precision``, ``fit.accumulate`` and ``data.workers`` decided.

    Args:
        config: as the user wrote it.
        people: who is to be trained on.
        members: this training's processes and device.
        kept: `choice_of` an earlier part of the training, which is kept.

    Raises:
        ConfigError: not even the smallest part of a batch fits into the memory.
    """
    kept, device = kept or {}, members.device
    precision, accumulate = str(kept.get("precision", "")), int(kept.get("accumulate", 0))
    fit = config.fit
    if device.type != "cpu":
        precision = precision or ("bf16" if in_bf16(fit.precision, device) else "fp32")
        return _with(config, precision, accumulate or fit.accumulate, config.data.workers)
    with torch.random.fork_rng(devices=[]):
        network: nn.Module = new_network(config, people.skeleton, None)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        distilled = with_distillation_head(network, config)  # type: ignore[arg-type]
        network = network if distilled is None else distilled
        if not precision:
            precision = _precision(config, people, network, members)
        workers = loaders(config.data.workers)
        config = _with(config, precision, accumulate or fit.accumulate, workers)
        parts = _parts(config, network, members)
        parts = round(float(members.total(torch.tensor([float(parts * members.leads)]))))
    if parts > config.fit.accumulate:
        config = _with(config, precision, parts, workers)
    return config


def choice_of(config: TrainConfig) -> dict[str, str | int]:
    """What of a settled configuration a resumed training has to keep."""
    return {"precision": config.fit.precision, "accumulate": config.fit.accumulate}


def _with(config: TrainConfig, precision: str, accumulate: int, workers: int) -> TrainConfig:
    fit = config.fit.model_copy(update={"precision": precision, "accumulate": accumulate})
    data = config.data.model_copy(update={"workers": workers})
    return config.model_copy(update={"fit": fit, "data": data})


def _precision(config: TrainConfig, people: People, network: nn.Module, members: Team) -> str:
    device = members.device
    if not to_be_tried(config.fit.precision, device):
        return "bf16" if in_bf16(config.fit.precision, device) else "fp32"
    if miscomputed(config):
        return "fp32"
    found = _tried(config, people, network)
    # All processes have to compute alike; the first one's clock counts.
    votes = torch.tensor([float(members.leads and found == "bf16")])
    found = "bf16" if float(members.total(votes)) > 0 else "fp32"
    LOG.info("fit.precision=auto is %s here", found)
    return found


def _tried(config: TrainConfig, people: People, network: nn.Module) -> Precision:
    """What is quicker at the last stage's step, on a batch of real crops."""
    last = last_stage(config)
    height, width = last.input.size
    few = max(2, min(last.fit.batch // last.fit.accumulate, TRIAL_PIXELS // (height * width)))
    alone = last.model_copy(update={"data": last.data.model_copy(update={"workers": 0})})
    draws = next(Plan(last, people.repeats).parts(0, 0))
    batch = next(batches(people, alone, [(draws * few)[:few]]))
    scale, offset = pixel_scale()
    trial = copy.deepcopy(network).train()

    def step(kind: Precision) -> None:
        fit = last.fit.model_copy(update={"precision": kind})
        trial.zero_grad(set_to_none=True)
        _loss(trial, batch, last.model_copy(update={"fit": fit}), (scale, offset)).backward()

    return quicker(step)


def _loss(
    network: nn.Module, batch: Batch, config: TrainConfig, pixels: tuple[Tensor, Tensor]
) -> Tensor:
    return batch_loss(network, batch, config, pixels)[0]


def _parts(config: TrainConfig, network: nn.Module, members: Team) -> int:
    """In how many parts a batch has to be computed so that a part fits into the memory."""
    free, fit = free_memory(), config.fit
    if free is None:
        return fit.accumulate
    weights = sum(p.numel() * p.element_size() for p in network.parameters())
    # Gradients and two moments; the network, its average and the loaders' batches come on top.
    room = USABLE * free / members.world - 5 * weights - WORKER_BYTES * config.data.workers
    pixel = OVER_SAVED * saved_bytes(network, config) / SIDE**2
    stages = [(stage.size, stage.batch) for stage in fit.stages]
    stages = stages or [(config.input.size, fit.batch)]

    def needed(accumulate: int) -> float:
        return max(
            pixel * height * width * (batch // (accumulate * members.world))
            for (height, width), batch in stages
        )

    least = min(batch for _, batch in stages) // members.world
    for accumulate in range(fit.accumulate, max(least // 2, fit.accumulate) + 1):
        even = all(batch % (accumulate * members.world) == 0 for _, batch in stages)
        if even and needed(accumulate) <= room:
            if accumulate > fit.accumulate and members.leads:
                LOG.warning(
                    "a batch of %d needs about %.1f GB and %.1f GB are free: it is computed in "
                    "%d parts (fit.accumulate=%d)",
                    max(batch for _, batch in stages), needed(fit.accumulate) / 1e9, free / 1e9,
                    accumulate, accumulate,
                )  # fmt: skip
            return accumulate
    if needed(fit.accumulate) <= room:  # an uneven batch, of which the plan has more to say
        return fit.accumulate
    raise ConfigError(
        f"a training step needs about {needed(max(least // 2, 1)) / 1e9:.1f} GB even in its "
        f"smallest parts and {free / 1e9:.1f} GB are free: lower fit.batch, input.size or "
        "model.width"
    )


def saved_bytes(network: nn.Module, config: TrainConfig) -> float:
    """Bytes that a forward pass keeps for the backward pass, for a crop of `SIDE` pixels."""
    trial = copy.deepcopy(network).train()
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.shape[:1] == crops.shape[:1]:  # no weight, nor its copy in bfloat16
            kept.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    crops = torch.zeros((2, 3, SIDE, SIDE)).to(memory_format=torch.channels_last)
    bf16 = config.fit.precision == "bf16"
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=bf16),
    ):
        trial(crops)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values()) / len(crops)
