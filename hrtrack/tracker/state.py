"""What is remembered of the people being followed, column by column."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from . import motion as kalman

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Live:
    """The people in view, carried forward to one instant; what `boxes.People` starts from.

    ``ids`` (T,) are 0 for people who are not confirmed yet; ``boxes`` (T, 4) are predictions
    in pixels, ``velocity`` (T, 2) pixels a second, ``shift`` (T, 2) how far they went since the
    newest frame. ``keys`` (T,) tell the tracks apart from the first sight on, before they have
    an ID; ``rows`` (T,) say which of the poses last given to `Tracks.update` they took.
    """

    keys: NDArray[np.int64]
    ids: NDArray[np.int64]
    boxes: Floats
    velocity: Floats
    shift: Floats
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(slots=True)
class State:
    """T people, seen in the newest frame or remembered.

    ``keys`` (T,) are given at first sight, ``ids`` (T,) on confirmation and 0 before;
    ``motion`` filters the boxes; ``keypoints`` (T, K, 2) and ``scores`` (T, K) are the last
    ones measured, moved along with the box, ``shape`` (T, K, 2) a calmer mean of them;
    ``quality`` (T,) is the running mean of the joint scores, ``since`` and ``seen`` (T,) the
    times in seconds of the first and the last match, ``hits`` (T,) how many detector frames saw
    the person, ``rows`` (T,) the pose that was matched last.
    """

    keys: NDArray[np.int64]
    ids: NDArray[np.int64]
    motion: kalman.Motion
    keypoints: Floats
    shape: Floats
    scores: Floats
    person_scores: Floats
    quality: Floats
    since: Floats
    seen: Floats
    hits: NDArray[np.int64]
    rows: NDArray[np.int64]

    def __getitem__(self, index: Mask | NDArray[np.integer]) -> State:
        return State(
            self.keys[index],
            self.ids[index],
            self.motion[index],
            self.keypoints[index],
            self.shape[index],
            self.scores[index],
            self.person_scores[index],
            self.quality[index],
            self.since[index],
            self.seen[index],
            self.hits[index],
            self.rows[index],
        )

    def joined(self, other: State) -> State:
        return State(
            np.concatenate([self.keys, other.keys]),
            np.concatenate([self.ids, other.ids]),
            kalman.join(self.motion, other.motion),
            np.concatenate([self.keypoints, other.keypoints]),
            np.concatenate([self.shape, other.shape]),
            np.concatenate([self.scores, other.scores]),
            np.concatenate([self.person_scores, other.person_scores]),
            np.concatenate([self.quality, other.quality]),
            np.concatenate([self.since, other.since]),
            np.concatenate([self.seen, other.seen]),
            np.concatenate([self.hits, other.hits]),
            np.concatenate([self.rows, other.rows]),
        )
