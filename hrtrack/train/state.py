"""A training run on disk: written atomically, so that a kill at any moment leaves a whole one."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import ModelError
from ..models.checkpoints import load_hrnet, save_weights
from ..models.hrnet import HRNet
from ..models.info import PoseInfo
from ..models.ranges import pose_ranges
from .optim import State

STATE = "state.pt"
WEIGHTS = "weights.safetensors"
BEST = "best.safetensors"


@dataclass(slots=True)
class RunState:
    """Everything that the next step depends on, and the best result so far."""

    network: State
    average: State
    optimizer: dict[str, Any]
    config: dict[str, Any]
    step: int = 0
    seen: int = 0
    elapsed: float = 0.0
    best: float = -1.0
    unreadable: int = 0


def save_state(state: RunState, folder: Path) -> None:
    """Replaces the state in ``folder``."""
    part = folder / f"{STATE}.part"
    torch.save({name: getattr(state, name) for name in RunState.__slots__}, part)
    _replace(part, folder / STATE)


def load_state(folder: Path, config: dict[str, Any]) -> RunState:
    """The state in ``folder``.

    Raises:
        ModelError: there is none, it is damaged, or it belongs to another configuration.
    """
    path = folder / STATE
    if not path.is_file():
        raise ModelError(f"nothing to resume: {path} does not exist")
    try:
        state = RunState(**torch.load(path, map_location="cpu", weights_only=True))
    except (RuntimeError, EOFError, TypeError, ValueError, OSError) as error:
        raise ModelError(f"{path} cannot be resumed: {' '.join(str(error).split())}") from None
    changed = [key for key in ("model", "target", "input") if state.config[key] != config[key]]
    if changed:
        raise ModelError(
            f"{path} was made with other settings under '{changed[0]}'; resume with the same "
            "configuration or start in another folder"
        )
    return state


def save_average(network: HRNet, average: State, described: PoseInfo, path: Path) -> None:
    """Writes averaged weights as safetensors; ``network`` is left as it was."""
    twin = HRNet(network.config)
    twin.load_state_dict(average)
    part = path.with_name(path.name + ".part")
    save_weights(twin, described, part)
    _replace(part, path)


def add_ranges(path: Path, crops: NDArray[np.uint8], device: torch.device) -> None:
    """Writes into a file of weights what lets CPUs compute with them in 8 bits.

    ``crops`` (N, H, W, 3) uint8 RGB are what the network is to see.
    """
    network, described = load_hrnet(path)
    ranges = pose_ranges(network.to(device), described, crops)
    part = path.with_name(path.name + ".part")
    save_weights(network.cpu(), described, part, ranges=ranges)
    _replace(part, path)


def _replace(part: Path, final: Path) -> None:
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.replace(final)
