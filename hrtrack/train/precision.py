"""Which arithmetic a training computes in."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import torch


def in_bf16(precision: str, device: torch.device) -> bool:
    """Whether to compute in bfloat16 where that is enough.

    Args:
        precision: ``bf16`` (always), ``fp32`` (never), or ``auto``: where the device is quicker at
            it. That are GPUs with bfloat16 of their own and CPUs with AMX; PyTorch imitates it on
            others, and is more than ten times slower than in float32 on CPUs with AVX2.
        device: what computes.
    """
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        with torch.cuda.device(device):
            return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and _amx()


@cache
def _amx() -> bool:
    # Not in every PyTorch that serves; without it nothing is known and float32 is safe.
    capabilities: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("amx_bf16"))
