"""A training run on disk: written atomically, so that a kill at any moment leaves a whole one."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..errors import ModelError
from ..writable import atomic_write
from .optim import State

LOG = logging.getLogger(__name__)
STATE = "state.pt"
ELSEWHERE = "resume with the same configuration and data, or start in another folder"
MAY_CHANGE = {
    "name", "data.root", "data.shards", "data.workers", "data.max_unreadable", "data.cache",
    "fit.epochs", "fit.steps", "fit.minutes", "fit.save_minutes", "fit.log_steps", "fit.val_every",
    "fit.workers", "fit.graph", "fit.store",
}  # fmt: skip
"""Where the data lie, how long it goes on, and what has no part in the outcome."""


# A training that was killed and resumed ends with the weights of one that never was, to the bit on
# a CPU: nothing less can be tested, since any fault of resuming looks like noise otherwise, and
# results stay comparable on machines that are lent for minutes at a time.
@dataclass(slots=True)
class RunState:
    """Everything that the next step depends on, and the best result so far.

    ``config`` is as the user wrote it, ``choice`` what the machine decided of it. ``head`` is what
    learns along and is thrown away; ``facts`` are the task's own.
    """

    network: State
    average: State
    optimizer: dict[str, Any]
    config: dict[str, Any]
    step: int = 0
    seen: int = 0
    elapsed: float = 0.0
    best: float = -1.0
    head: State = field(default_factory=dict)
    choice: dict[str, str | int] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


def save_state(state: RunState, folder: Path) -> None:
    """Replaces the state in ``folder``."""
    with atomic_write(folder / STATE) as part:
        torch.save({name: getattr(state, name) for name in RunState.__slots__}, part)


def load_state(folder: Path, config: dict[str, Any], shaping: Sequence[str]) -> RunState:
    """The state in ``folder``, for a training with this configuration.

    ``shaping``: beginnings of the settings that network, optimiser and average are made of and
    for; all others may differ.

    Raises:
        ModelError: there is none, it is damaged, or it belongs to another configuration.
    """
    path = folder / STATE
    if not path.is_file():
        raise ModelError(f"nothing to resume: {path} does not exist")
    try:
        state = RunState(**torch.load(path, map_location="cpu", weights_only=True))
    except (
        RuntimeError, EOFError, TypeError, ValueError, OSError, KeyError, AttributeError,
        pickle.UnpicklingError,
    ):  # fmt: skip
        raise no_state(path) from None
    old, new = _flat(state.config), _flat(config)
    for key in dict.fromkeys([*new, *old]):
        if key.startswith(tuple(shaping)) and old.get(key) != new.get(key):
            raise ModelError(
                f"{path} was made with other settings: {key} was {old.get(key)}, is "
                f"{new.get(key)}; {ELSEWHERE}"
            )
    return state


def no_state(path: Path) -> ModelError:
    """What to raise for a file that does not hold what it should."""
    return ModelError(
        f"{path} cannot be resumed: it is damaged, or it is not the state of a training"
    )


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
