"""What the action network reads, and what its file says about itself; needs numpy only.

Pure numpy, because training and the live tracker must do exactly the same.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError
from ..models.info import KEY
from ..types import Float32Array


@dataclass(frozen=True)
class Window:
    """``samples`` moments, evenly spread over the last ``seconds``.

    A moment further than ``max_gap`` seconds from the frames on either side counts as unseen.
    """

    seconds: float
    samples: int
    max_gap: float = 0.3

    @property
    def step(self) -> float:
        """Seconds from one sample to the next."""
        return self.seconds / self.samples


def sample(
    times: NDArray[np.float64], joints: Float32Array, end: float, window: Window
) -> Float32Array:
    """Joints (F, V, 3) at rising ``times`` (F,) to (samples, V, 3) up to ``end``.

    Linear between the two frames around each moment, over those of the two in which the
    joint was seen (score > 0); unseen moments and joints are (0, 0, 0). Frame rate plays no
    part: 10 and 60 frames a second give the same moments.
    """
    out = np.zeros((window.samples, joints.shape[1], 3), np.float32)
    if not len(times):
        return out
    at = end - window.step * np.arange(window.samples - 1, -1, -1)
    # A frame time that is off by rounding must not cost the first or the last moment.
    near = 0.51 * window.step
    inside = (at >= times[0] - near) & (at <= times[-1] + near)
    right = np.clip(np.searchsorted(times, at), 0, len(times) - 1)
    left = np.maximum(right - 1, 0)
    gap = times[right] - times[left]
    share = np.where(gap > 0, (at - times[left]) / np.where(gap > 0, gap, 1.0), 1.0)
    share = np.clip(share, 0.0, 1.0)
    far = gap > 2 * window.max_gap
    nearest = np.minimum(np.abs(at - times[left]), np.abs(at - times[right]))
    inside &= ~far | (nearest <= window.max_gap)
    share = np.where(far, np.round(share), share)
    weights = np.stack((1.0 - share, share))[:, :, None] * np.stack(
        (joints[left, :, 2] > 0, joints[right, :, 2] > 0)
    )
    total = weights.sum(0)
    weights /= np.where(total > 0, total, 1.0)
    out[:] = weights[0, ..., None] * joints[left] + weights[1, ..., None] * joints[right]
    out[~inside] = 0.0
    return out


def normalise(windows: Float32Array) -> Float32Array:
    """Windows (N, T, V, 3) in pixels to the network's input (N, 3, T, V).

    The centre is the mean of all seen joints of the window, the unit the mean over its
    frames of the joints' root mean square distance from the frame's own middle; so travel
    within the window is kept and position and size in the image are not.
    """
    points = windows[..., :2].astype(np.float32)
    scores = windows[..., 2].astype(np.float32)
    seen = (scores > 0).astype(np.float32)
    per_frame = seen.sum(-1)
    middle = (points * seen[..., None]).sum(-2) / np.maximum(per_frame, 1.0)[..., None]
    spread = (np.square(points - middle[..., None, :]).sum(-1) * seen).sum(-1)
    radius = np.sqrt(spread / np.maximum(per_frame, 1.0))
    frames = (per_frame > 1).astype(np.float32)
    unit = (radius * frames).sum(-1) / np.maximum(frames.sum(-1), 1.0)
    total = np.maximum(per_frame.sum(-1), 1.0)
    centre = (points * seen[..., None]).sum((-3, -2)) / total[:, None]
    unit = np.where(unit > 1e-6, unit, 1.0)
    scaled = (points - centre[:, None, None]) / unit[:, None, None, None]
    scaled = np.clip(scaled, -6.0, 6.0) * seen[..., None]
    out = np.concatenate((scaled, scores[..., None]), -1)
    return np.ascontiguousarray(out.transpose(0, 3, 1, 2), dtype=np.float32)


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
