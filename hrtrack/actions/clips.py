"""Clips of one person doing one thing, as joints over time, and those of Penn Action.

Zhang, Zhu and Derpanis, "From Actemes to Action", ICCV 2013.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..skeleton import ACTION13

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


# The set gives no frame times; its videos run at about 30 frames a second.
FRAMES_PER_SECOND = 30.0
# The set's "left" is the body's right: of its people seen from the front about seven in eight
# have the "left" hip on the picture's left, of those seen from behind five in six on its right.
# Trackers name the body's own sides.
BODY_SIDES = list(ACTION13.mirror)
SPLITS = {"train": 1, "test": -1}


def load_penn(root: Path, part: Literal["train", "test"]) -> list[ActionClip]:
    """The clips of one part of the official split, in order of their number.

    Left and right are the body's own, which the set's are not. Joints that it calls hidden
    have score 0; their coordinates are kept where they are guesses and are not the
    placeholder (1, 1). DataError when the folder holds no labels or a file is of another
    shape.
    """
    files = sorted((root / "labels").glob("*.mat"))
    if not files:
        raise DataError(
            f"no labels/*.mat below '{root}'; give the folder of Penn Action that holds 'labels'"
        )
    clips = [clip for file in files if (clip := _load(file, SPLITS[part])) is not None]
    if not clips:
        raise DataError(f"'{root}' holds no clip of the {part} split")
    return clips


def _load(file: Path, part: int) -> ActionClip | None:
    from scipy.io import loadmat

    try:
        mat = loadmat(file, squeeze_me=True)
        if int(mat["train"]) != part:
            return None
        points = np.stack((mat["x"], mat["y"]), -1).astype(np.float32)
        seen = np.asarray(mat["visibility"]).astype(np.float32)
        label = str(mat["action"])
    except (KeyError, ValueError, TypeError, NotImplementedError, OSError) as error:
        raise DataError(f"'{file}' is not a Penn Action label file: {error}") from error
    joints = len(ACTION13)
    if points.ndim != 3 or points.shape[1:] != (joints, 2) or seen.shape != points.shape[:2]:
        raise DataError(f"'{file}' has joints of shape {points.shape}; (T, {joints}, 2) expected")
    points, seen = points[:, BODY_SIDES], seen[:, BODY_SIDES]
    placeholder = (points == 1.0).all(-1)
    points[placeholder] = 0.0
    seen[placeholder] = 0.0
    times = np.arange(len(points)) / FRAMES_PER_SECOND
    return ActionClip(file.stem, label, times, np.concatenate((points, seen[..., None]), -1))
