"""A clip of one person doing one thing, as joints over time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ...errors import DataError

UNKNOWN = "unknown"


@dataclass(frozen=True)
class ActionClip:
    """``times`` (F,) seconds, rising; ``joints`` (F, 13, 3) action13 x, y in pixels and score.

    A score of 0 means not seen; the x, y of such a joint may be a guess or meaningless.
    """

    name: str
    label: str
    times: NDArray[np.float64]
    joints: NDArray[np.float32]

    @property
    def seconds(self) -> float:
        """From the first frame to the last."""
        return float(self.times[-1] - self.times[0])

    def first(self, fraction: float) -> ActionClip:
        """The clip as known once ``fraction`` of its frames have been seen, two at least."""
        count = max(2, round(fraction * len(self.times)))
        return replace(self, times=self.times[:count], joints=self.joints[:count])


def labels_of(clips: Sequence[ActionClip]) -> tuple[str, ...]:
    """The action names, sorted; clips of "unknown" show none of them."""
    return tuple(sorted({clip.label for clip in clips} - {UNKNOWN}))


def split(
    clips: Sequence[ActionClip], fraction: float, seed: int
) -> tuple[list[ActionClip], list[ActionClip]]:
    """(rest, held out): ``fraction`` of every action's clips, at least one, is held out.

    DataError where an action has fewer than two clips.
    """
    rng = np.random.default_rng(seed)
    rest: list[ActionClip] = []
    held: list[ActionClip] = []
    for label in sorted({clip.label for clip in clips}):
        own = [clip for clip in clips if clip.label == label]
        if len(own) < 2:
            raise DataError(
                f"action '{label}' has {len(own)} clip; at least 2 are needed, "
                "one to learn from and one to choose by: record more or drop the action"
            )
        order = rng.permutation(len(own))
        count = max(1, round(fraction * len(own)))
        held += [own[i] for i in order[:count]]
        rest += [own[i] for i in order[count:]]
    return rest, held
