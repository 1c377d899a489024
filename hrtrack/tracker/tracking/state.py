"""What is remembered of the people being followed, column by column, and what is proposed of them.

Kept apart from `associate`, because `similarity` reads these columns and `associate` calls it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...types import BoolArray, Float64Array
from . import motion as kalman

NOBODY = 0
"""The track key of a proposal that belongs to nobody who is followed."""


@dataclass(frozen=True, slots=True)
class Proposals:
    """The N boxes of one frame in which the pose network is to look.

    ``boxes`` (N, 4) are in image pixels, ``scores`` (N,) say how sure it is that each holds a
    person. ``track_keys`` (N,) name the track that a box belongs to, `NOBODY` for a newcomer.
    ``from_detector`` (N,) marks the boxes that the detector found in this very frame; all others
    are guesses from the motion before, and only the pose that is found in one tells where the
    person is. ``detected`` says whether any detection, of this frame or an earlier one, was used:
    only then does a frame count towards an ID (`AssociationOptions.confirm_hits`).
    """

    boxes: Float64Array
    scores: Float64Array
    track_keys: NDArray[np.int64]
    from_detector: BoolArray
    detected: bool

    def __len__(self) -> int:
        return len(self.boxes)

    @classmethod
    def from_detections(
        cls, boxes: NDArray[np.floating], scores: NDArray[np.floating]
    ) -> Proposals:
        """Boxes (N, 4) with scores (N,) that a detector found in this frame."""
        count = len(boxes)
        return cls(
            np.asarray(boxes, np.float64).reshape(-1, 4),
            np.asarray(scores, np.float64).reshape(-1),
            np.full(count, NOBODY, np.int64),
            np.ones(count, bool),
            True,
        )

    def __getitem__(self, index: BoolArray | NDArray[np.integer]) -> Proposals:
        return Proposals(
            self.boxes[index],
            self.scores[index],
            self.track_keys[index],
            self.from_detector[index],
            self.detected,
        )


@dataclass(frozen=True, slots=True)
class Live:
    """The T people in view, carried forward to one instant.

    ``keys`` (T,) tell the tracks apart from the first sight on; ``ids`` (T,) are 0 for people who
    are not confirmed yet. ``boxes`` (T, 4) are the motion filter's predictions in pixels,
    ``velocity`` (T, 2) is in pixels a second. ``bodies`` (T, 4) are the boxes around the poses
    found last, moved as the filter predicts, ``scores`` (T,) those of the boxes given last.
    ``measured`` (T,) is the time in seconds at which the pose network looked at each last and
    ``carried`` (T,) the frames since; ``drift`` (T,) says in sizes a second how far the joints went
    astray from where they were carried, and ``certainty`` (T,) is the share of their usual score
    that the joints had last.
    """

    keys: NDArray[np.int64]
    ids: NDArray[np.int64]
    boxes: Float64Array
    velocity: Float64Array
    bodies: Float64Array
    scores: Float64Array
    measured: Float64Array
    carried: NDArray[np.int64]
    drift: Float64Array
    certainty: Float64Array

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class Sighting:
    """Who was where in a frame that has been tracked, for a detection of it that comes late.

    ``keys`` (T,) are the tracks in view, ``bodies`` (T, 4) the boxes around their poses,
    ``keypoints`` (T, K, 2) the joints and ``certain`` (T, K) which of them shape a box. In the
    boxes ``lost`` (M, 4) people who are remembered would have been.
    """

    keys: NDArray[np.int64]
    bodies: Float64Array
    keypoints: Float64Array
    certain: BoolArray
    lost: Float64Array


@dataclass(frozen=True, slots=True)
class Carried:
    """N people in view who are carried on in a frame, not estimated, by their ``proposals``.

    Of those who were ``found`` (N,) again in its picture ``keypoints`` (N, K, 2) and ``centres``
    (N, 2), the middles of the motion filter's boxes, are where they are there.
    """

    proposals: Proposals
    keypoints: Float64Array
    centres: Float64Array
    found: BoolArray

    def __getitem__(self, index: BoolArray | NDArray[np.integer]) -> Carried:
        return Carried(
            self.proposals[index], self.keypoints[index], self.centres[index], self.found[index]
        )


@dataclass(slots=True)
class State:
    """T people, seen in the newest frame or remembered.

    ``keys`` (T,) are given at first sight, ``ids`` (T,) on confirmation and 0 before;
    ``motion`` filters the boxes; ``keypoints`` (T, K, 2) and ``scores`` (T, K) are the last
    ones measured, moved along with the box, ``shape`` (T, K, 2) a calmer mean of them;
    ``quality`` (T,) is the running mean of the joint scores, ``since`` and ``seen`` (T,) the
    times in seconds of the first and the last match, ``hits`` (T,) how many detector frames saw
    the person. ``box_scores`` (T,) and ``bodies`` (T, 4) are those of the last match;
    ``detected_boxes`` (T, 4) are the boxes as the detector found them last, with the joints
    ``detected_keypoints`` (T, K, 2) that lay in them then and which of these were certain,
    ``detected_certain`` (T, K).

    ``measured`` (T,) is the time of the last pose, which is earlier than ``seen`` for people in
    view who are carried, and ``carried`` (T,) counts the frames since; ``drift`` (T,) is the
    running mean of how far the joints went astray from where they were carried, in sizes a second.
    """

    keys: NDArray[np.int64]
    ids: NDArray[np.int64]
    motion: kalman.Motion
    keypoints: Float64Array
    shape: Float64Array
    scores: Float64Array
    person_scores: Float64Array
    quality: Float64Array
    since: Float64Array
    seen: Float64Array
    hits: NDArray[np.int64]
    box_scores: Float64Array
    bodies: Float64Array
    detected_boxes: Float64Array
    detected_keypoints: Float64Array
    detected_certain: BoolArray
    measured: Float64Array
    carried: NDArray[np.int64]
    drift: Float64Array

    def __getitem__(self, index: BoolArray | NDArray[np.integer]) -> State:
        columns: list[Any] = [getattr(self, name)[index] for name in _COLUMNS]
        return State(*columns)

    def joined(self, other: State) -> State:
        """The people of this state followed by those of ``other``."""
        columns: list[Any] = [
            kalman.join(mine, theirs)
            if isinstance(mine := getattr(self, name), kalman.Motion)
            else np.concatenate([mine, theirs])
            for name in _COLUMNS
            for theirs in [getattr(other, name)]
        ]
        return State(*columns)

    def rows_of(self, keys: NDArray[np.int64]) -> NDArray[np.intp]:
        """The row (N,) of each of the tracks ``keys`` (N,), -1 for one that is gone."""
        return rows_of(self.keys, keys)


def rows_of(known: NDArray[np.int64], keys: NDArray[np.int64]) -> NDArray[np.intp]:
    """The place (N,) of each of ``keys`` (N,) among the ``known`` ones, -1 where it is not."""
    if len(known) == 0:
        return np.full(len(keys), -1, np.intp)
    # Keys are given in ascending order and rows never change places.
    rows = np.minimum(np.searchsorted(known, keys), len(known) - 1)
    return np.where(known[rows] == keys, rows, -1)


_COLUMNS = tuple(field.name for field in fields(State))
