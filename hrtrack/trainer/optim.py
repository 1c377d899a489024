"""The optimisers, among them Muon, and the running average of weights.

Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024: the step of a
weight matrix is its momentum with every singular value brought near 1. The size of a step is that
of Liu et al., "Muon is Scalable for LLM Training", 2025 (arXiv:2502.16982), so that the learning
rates of AdamW serve.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..models.precision import in_bf16

if TYPE_CHECKING:
    from ..configs.base import FitSection


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


class Ema:
    """An exponential moving average of a network's parameters and buffers.

    The decay rises from 0 to its value, so that the random start is forgotten; a decay of 0
    follows the network exactly. ``network`` is a twin that holds the average, ``state`` its
    tensors.
    """

    # torch's AveragedModel would save nothing. It hands the number of steps to the decay's rule as
    # a tensor on the device, which nobody can read without waiting for the GPU, so that a count of
    # our own would stand beside it; counters among the buffers would still be a case apart; and
    # with the same rule it takes 9.1 ms a step for body_fast on a CPU, where this takes 6.4.
    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.network = copy.deepcopy(network).eval()
        self.state: State = self.network.state_dict()

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


ITERATION = 3.4445, -4.7750, 2.0315
"""Jordan et al.'s coefficients of x, x^3 and x^5; five rounds bring 0.01 to 1 near 1."""
ROUNDS = 5
STEP_SIZE = 0.2
"""Root mean square of AdamW's usual steps (Liu et al., equation 4)."""
TINY = 1e-7


def orthogonal(matrices: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """The nearest matrices with singular values near 1 (0.7 to 1.2), by Newton-Schulz rounds.

    Args:
        matrices: (N, rows, columns), each taken by itself.
        dtype: of the arithmetic; bfloat16 is enough where the device is quick at it.

    Returns:
        (N, rows, columns) in the type that came.
    """
    tall = matrices.shape[1] > matrices.shape[2]
    x = (matrices.mT if tall else matrices).to(dtype)
    x = x / (x.norm(dim=(1, 2), keepdim=True) + TINY)
    first, third, fifth = ITERATION
    for _ in range(ROUNDS):
        square = x @ x.mT
        both = torch.baddbmm(square, square, square, beta=third, alpha=fifth)
        x = torch.baddbmm(x, both, x, beta=first)
    return (x.mT if tall else x).to(matrices.dtype)


# torch.optim.Muon refuses parameters that are no matrices, and nearly all of ours are convolutions.
# Muon is worth its step because short trainings end lower: after 500 steps from the same weights at
# a loss of 4.237, with AdamW at the same rate at 4.254 (one run each, docs/research/pose.md).
class Muon(torch.optim.AdamW):
    """Muon for the groups that say ``orthogonal``, AdamW for the others.

    A convolution (outputs, inputs, height, width) counts as a matrix of ``outputs`` rows. Weight
    decay is decoupled in both.

    Args:
        groups: as for every optimiser; each may say ``orthogonal: True``.
        lr: one learning rate for both kinds.
        momentum: of the orthogonal groups, after Nesterov.
        dtype: of the orthogonal groups' arithmetic.
        fused: AdamW's.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        lr: float,
        *,
        momentum: float = 0.95,
        dtype: torch.dtype = torch.float32,
        fused: bool | None = None,
    ) -> None:
        groups = [{"orthogonal": False, **group} for group in groups]
        super().__init__(groups, lr=lr, fused=fused)
        self._momentum, self._dtype = momentum, dtype

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step of every group."""
        groups = self.param_groups
        self.param_groups = [group for group in groups if not group["orthogonal"]]
        try:
            loss = super().step(closure)
        finally:
            self.param_groups = groups
        for group in groups:
            if group["orthogonal"]:
                self._orthogonal_step(group)
        return loss

    def _orthogonal_step(self, group: dict[str, Any]) -> None:
        alike: defaultdict[tuple[int, int], list[Tensor]] = defaultdict(list)
        for weight in group["params"]:
            if weight.grad is not None:
                alike[len(weight), weight[0].numel()].append(weight)
        for (rows, columns), weights in alike.items():
            momenta = [self._momentum_of(weight) for weight in weights]
            gradients = [weight.grad for weight in weights if weight.grad is not None]
            torch._foreach_lerp_(momenta, gradients, 1 - self._momentum)
            ahead = torch._foreach_lerp(gradients, momenta, self._momentum)
            steps = orthogonal(torch.stack([one.flatten(1) for one in ahead]), self._dtype)
            size = group["lr"] * STEP_SIZE * max(rows, columns) ** 0.5
            torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
            for weight, step in zip(weights, steps, strict=True):
                weight.add_(step.view(weight.shape), alpha=-size)

    def _momentum_of(self, weight: Tensor) -> Tensor:
        state = self.state[weight]
        if "momentum" not in state:
            # AdamW, which reads saved states back, wants a step in each.
            state["step"], state["momentum"] = torch.zeros(()), torch.zeros_like(weight)
        momentum: Tensor = state["momentum"]
        return momentum
