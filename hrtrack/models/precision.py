"""Which arithmetic a training computes in."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import cache
from typing import Literal

import torch

Precision = Literal["fp32", "bf16"]
BUDGET = 4.0
"""Seconds of a trial."""
ROUNDS = (1, 5)
"""The fewest and the most times that a trial times each arithmetic."""
WORTH = 0.9
"""bfloat16 is taken where a step needs less than this share of float32's time. A smaller gain is
not worth the lost digits, and two runs might choose differently."""


def in_bf16(precision: str, device: torch.device) -> bool:
    """Whether to compute in bfloat16 where that is enough.

    Args:
        precision: ``bf16`` (always), ``fp32`` (never), or ``auto``: where the device is most
            likely quicker at it. That are GPUs with bfloat16 of their own and CPUs with AMX;
            PyTorch imitates it on others, and is more than ten times slower than in float32 on
            CPUs with AVX2.
        device: what computes.
    """
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        with torch.cuda.device(device):
            return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and cpu_has("amx_bf16")


def to_be_tried(precision: str, device: torch.device) -> bool:
    """Whether only a trial can tell what ``auto`` is: on CPUs that have bfloat16 of their own."""
    return precision == "auto" and device.type == "cpu" and (
        cpu_has("avx512_bf16") or cpu_has("amx_bf16")
    )  # fmt: skip


def quicker(
    step: Callable[[Precision], object], clock: Callable[[], float] = time.perf_counter
) -> Precision:
    """The arithmetic in which ``step`` takes less time, by a trial of a few seconds.

    The two take turns, after one untimed step each for what PyTorch makes once; the shortest
    time counts, as everything else on the machine only ever makes steps longer.
    """
    kinds: tuple[Precision, ...] = ("fp32", "bf16")
    best: dict[Precision, float] = {}
    for kind in kinds:
        step(kind)
    started = clock()
    for done in range(ROUNDS[1]):
        if done >= ROUNDS[0] and clock() - started > BUDGET:
            break
        for kind in kinds:
            begun = clock()
            step(kind)
            passed = clock() - begun
            best[kind] = min(best.get(kind, passed), passed)
    return "bf16" if best["bf16"] < WORTH * best["fp32"] else "fp32"


@cache
def cpu_has(instructions: str) -> bool:
    """Whether PyTorch reports these instructions of the CPU, such as ``amx_bf16``."""
    # Not in every PyTorch that serves; without it nothing is known and float32 is safe.
    capabilities: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get(instructions))
