"""What an action model file says about itself, read without torch, ONNX or any runtime."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import ModelError
from .action_input import Window
from .info import KEY

TASK = "action"


@dataclass(frozen=True, slots=True)
class ActionInfo:
    """Facts about an action network that its weights do not show.

    The network gives len(labels) + 1 logits, the last for "unknown". Divided by
    ``temperature`` they are calibrated; an answer below ``threshold`` is "unknown" too.
    ``notes`` is free text by topic (licence, training data, measured accuracy).
    """

    labels: tuple[str, ...]
    window: Window
    temperature: float = 1.0
    threshold: float = 0.5
    notes: dict[str, str] = field(default_factory=dict)

    def metadata(self) -> dict[str, str]:
        """The entry to write into a model file."""
        return {KEY: json.dumps({"task": TASK, **dataclasses.asdict(self)})}


def action_info(metadata: Mapping[str, str], source: str | Path) -> ActionInfo:
    """The `ActionInfo` in a file's metadata; ModelError if it has none or it is damaged."""
    try:
        fields = json.loads(metadata.get(KEY, "{}"))
        if fields.get("task") != TASK:
            raise ModelError(
                f"{source} is not an hrtrack action model; 'hrtrack train action' writes one"
            )
        window = fields["window"]
        return ActionInfo(
            labels=tuple(str(label) for label in fields["labels"]),
            window=Window(
                float(window["seconds"]), int(window["samples"]), float(window["max_gap"])
            ),
            temperature=float(fields["temperature"]),
            threshold=float(fields["threshold"]),
            notes={str(k): str(v) for k, v in fields.get("notes", {}).items()},
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelError(f"{source}: its '{KEY}' metadata cannot be read ({error!r})") from None
