"""The optimiser, its schedule, and the running average of the weights."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from .muon import Muon
from .precision import in_bf16

if TYPE_CHECKING:
    from ..configs.schema import FitSection


State = dict[str, Tensor]


def make_optimizer(network: nn.Module, fit: FitSection) -> torch.optim.Optimizer:
    """Adam, AdamW or Muon for a pose network."""
    named = {name.removeprefix("network."): p for name, p in network.named_parameters()}
    device = next(network.parameters()).device
    return optimizer_of(
        named, fit.optimizer, fit.lr, fit.weight_decay,
        edges=("conv1.", "final_layer.", "guess."), quick=in_bf16(fit.precision, device),
    )  # fmt: skip


def optimizer_of(
    parameters: dict[str, nn.Parameter],
    kind: str,
    lr: float,
    weight_decay: float,
    *,
    edges: tuple[str, ...],
    quick: bool,
) -> torch.optim.Optimizer:
    """An optimiser for named parameters; weight decay spares biases and norms.

    Args:
        parameters: what is to be learnt.
        kind: ``adam``, ``adamw`` or ``muon``.
        lr: the learning rate.
        weight_decay: of everything with more than one dimension.
        edges: how the names of the first and the last layers begin, which Muon leaves to AdamW.
        quick: bfloat16 is enough for Muon's arithmetic.
    """
    vectors = {"params": [p for p in parameters.values() if p.ndim <= 1], "weight_decay": 0.0}
    matrices = {name: p for name, p in parameters.items() if p.ndim > 1}
    if kind != "muon":
        groups = [{"params": [*matrices.values()], "weight_decay": weight_decay}, vectors]
        make = torch.optim.AdamW if kind == "adamw" else torch.optim.Adam
        return make(groups, lr=lr, fused=True)
    ends = [p for name, p in matrices.items() if name.startswith(edges)]
    hidden = [p for name, p in matrices.items() if not name.startswith(edges)]
    return Muon(
        [
            {"params": hidden, "weight_decay": weight_decay, "orthogonal": True},
            {"params": ends, "weight_decay": weight_decay},
            vectors,
        ],
        lr,
        dtype=torch.bfloat16 if quick else torch.float32,
        fused=True,
    )


def learning_rate(fit: FitSection, step: int, share_done: float) -> float:
    """The rate of a step: a linear warm-up times steps at milestones, or half a cosine."""
    warm = min(1.0, (step + 1) / fit.warmup_steps) if fit.warmup_steps else 1.0
    if fit.schedule == "cosine":
        return fit.lr * warm * 0.5 * (1 + math.cos(math.pi * share_done))
    # A share that stands for a whole number of epochs must not miss its milestone by rounding.
    passed = sum(share_done >= milestone - 1e-9 for milestone in fit.milestones)
    return fit.lr * warm * fit.gamma**passed


class Ema:
    """An exponential moving average of a network's parameters and buffers.

    The decay rises from 0 to its value, so that the random start is forgotten; a decay of 0
    follows the network exactly.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.state: State = {k: v.detach().clone() for k, v in network.state_dict().items()}

    def update(self, network: nn.Module, step: int) -> None:
        """Moves the average towards the network after its ``step``-th step (from 1 on)."""
        decay = min(self.decay, (1 + step) / (10 + step)) if self.decay else 0.0
        move_average(self.state, network.state_dict(), decay)


@torch.no_grad()
def move_average(average: State, now: State, decay: float) -> None:
    """Moves an average's tensors towards ``now`` in place; counters are copied."""
    floats = [name for name, value in now.items() if value.is_floating_point()]
    torch._foreach_lerp_([average[n] for n in floats], [now[n] for n in floats], 1 - decay)
    counts = sorted(now.keys() - set(floats))
    if counts:
        torch._foreach_copy_([average[n] for n in counts], [now[n] for n in counts])
