"""What a computation asks of its device."""

from __future__ import annotations

from typing import Any

import pytest
from torch.utils._python_dispatch import TorchDispatchMode

from hrtrack.trainer.cuda_graphs import CapturedStep

WAITS = ("lift_fresh", "_local_scalar_dense", "nonzero", "masked_select", "unique")
"""Operations that wait for a GPU: numbers brought there, a value or a size brought back."""


class Asked(TorchDispatchMode):
    """Collects the names of operations that a CUDA graph cannot hold."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if any(name in str(func) for name in WAITS):
            self.waits.append(str(func))
        return func(*args, **(kwargs or {}))


def count_replays(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """A list that grows with every step that is replayed from a recording."""
    replays: list[None] = []
    call = CapturedStep.__call__

    def counting(recording: CapturedStep, *inputs: Any) -> Any:
        replays.append(None)
        return call(recording, *inputs)

    monkeypatch.setattr(CapturedStep, "__call__", counting)
    return replays
