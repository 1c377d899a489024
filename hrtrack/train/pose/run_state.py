"""A training run on disk: written atomically, so that a kill at any moment leaves a whole one."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...errors import ModelError
from ...models.checkpoints import HEAD, load_hrnet, save_weights
from ...models.info import PoseInfo
from ...models.pose.hrnet import HRNet
from ...models.runtimes.eight_bit import pose_ranges
from ...trainer.optim import State
from ...writable import atomic_write

LOG = logging.getLogger(__name__)
STATE = "state.pt"
WEIGHTS = "weights.safetensors"
BEST = "best.safetensors"
ELSEWHERE = "resume with the same configuration and data, or start in another folder"
SHAPING = ("model", "target", "input", "teacher", "fit.optimizer", "fit.ema")
"""What the saved network, optimiser and average are made of and for."""
MAY_CHANGE = {
    "name", "data.root", "data.workers", "data.max_unreadable",
    "fit.epochs", "fit.steps", "fit.minutes", "fit.save_minutes", "fit.val_every",
}  # fmt: skip
"""Where the data lie, how long it goes on, and what has no part in the outcome."""


@dataclass(slots=True)
class RunState:
    """Everything that the next step depends on, and the best result so far.

    ``config`` is as the user wrote it, ``choice`` what the machine decided of it
    (`hrtrack.train.pose.settle`).
    """

    network: State
    average: State
    optimizer: dict[str, Any]
    config: dict[str, Any]
    step: int = 0
    seen: int = 0
    elapsed: float = 0.0
    best: float = -1.0
    unreadable: int = 0
    joints: list[str] = field(default_factory=list)
    pupil: State = field(default_factory=dict)
    choice: dict[str, str | int] = field(default_factory=dict)


def save_state(state: RunState, folder: Path) -> None:
    """Replaces the state in ``folder``."""
    with atomic_write(folder / STATE) as part:
        torch.save({name: getattr(state, name) for name in RunState.__slots__}, part)


def load_state(folder: Path, config: dict[str, Any], joints: Sequence[str]) -> RunState:
    """The state in ``folder``, for a training with this configuration on data with these joints.

    Raises:
        ModelError: there is none, it is damaged, or it belongs to another configuration or
            to other joints.
    """
    path = folder / STATE
    if not path.is_file():
        raise ModelError(f"nothing to resume: {path} does not exist")
    try:
        state = RunState(**torch.load(path, map_location="cpu", weights_only=True))
        head = state.network[HEAD + "weight"]
    except (
        RuntimeError, EOFError, TypeError, ValueError, OSError, KeyError, AttributeError,
        pickle.UnpicklingError,
    ):  # fmt: skip
        raise ModelError(
            f"{path} cannot be resumed: it is damaged, or it is not the state of a training"
        ) from None
    old, new = _flat(state.config), _flat(config)
    changed = [
        key
        for key in dict.fromkeys([*new, *old])
        if key.startswith(SHAPING) and old.get(key) != new.get(key)
    ]
    if changed:
        key = changed[0]
        raise ModelError(
            f"{path} was made with other settings: {key} was {old.get(key)}, is {new.get(key)}; "
            f"{ELSEWHERE}"
        )
    if len(head) != len(joints):
        raise ModelError(
            f"{path} was made for {len(head)} joints, the data have {len(joints)}; {ELSEWHERE}"
        )
    if state.joints and state.joints != list(joints):
        raise ModelError(
            f"{path} was made for the joints {', '.join(state.joints)}, the data have "
            f"{', '.join(joints)}; {ELSEWHERE}"
        )
    return state


def warn_of_changes(state: RunState, config: dict[str, Any], folder: Path) -> None:
    """Names the settings that differ from those the run began with, but for `MAY_CHANGE`."""
    old, new = _flat(state.config), _flat(config)
    changed = [
        f"{key} was {old[key]}, is {new[key]}"
        for key in new
        if key in old and old[key] != new[key] and key not in MAY_CHANGE
    ]
    if changed:
        LOG.warning(
            "%s began with other settings and will not end as if it had never been stopped: %s",
            folder, ", ".join(changed),
        )  # fmt: skip


def kept_choice(state: RunState, config: dict[str, Any]) -> dict[str, str | int]:
    """What the machine decided when the run began, but for settings that the user has changed."""
    old, new = state.config.get("fit", {}), config.get("fit", {})
    return {key: v for key, v in state.choice.items() if old.get(key) == new.get(key)}


def _flat(values: Any, name: str = "") -> dict[str, Any]:
    if isinstance(values, list) and any(isinstance(value, dict) for value in values):
        values = {str(number): value for number, value in enumerate(values)}
    if not isinstance(values, dict):
        return {name: values}
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= _flat(value, f"{name}.{key}" if name else key)
    return found


def save_average(network: HRNet, average: State, described: PoseInfo, path: Path) -> None:
    """Writes averaged weights as safetensors; ``network`` is left as it was."""
    twin = HRNet(network.config)
    twin.load_state_dict(average)
    with atomic_write(path) as part:
        save_weights(twin, described, part)


def add_ranges(path: Path, crops: NDArray[np.uint8], device: torch.device) -> None:
    """Writes into a file of weights what lets CPUs compute with them in 8 bits.

    ``crops`` (N, H, W, 3) uint8 RGB are what the network is to see.
    """
    network, described = load_hrnet(path)
    ranges = pose_ranges(network.to(device), described, crops)
    with atomic_write(path) as part:
        save_weights(network.cpu(), described, part, ranges=ranges)
