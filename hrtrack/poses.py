"""One frame's people, column by column."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .types import Float32Array


@dataclass(frozen=True, slots=True)
class Action:
    """What a person is doing; ``label`` is "unknown" below the calibrated confidence."""

    label: str
    score: float


@dataclass(frozen=True, slots=True)
class Poses:
    """The N people of one frame, in image pixels.

    ``time`` is in seconds on the source's clock. ``boxes`` (N, 4) are x0, y0, x1, y1;
    ``person_scores`` (N,) and ``scores`` (N, K) lie in [0, 1]; ``keypoints`` are (N, K, 2);
    ``ids`` (N,) are stable over time and never reused, -1 before tracking. ``actions`` is
    None unless actions were asked for, else one entry a person, None while too little of
    the person has been seen.
    """

    frame: int
    time: float
    boxes: Float32Array
    person_scores: Float32Array
    keypoints: Float32Array
    scores: Float32Array
    ids: NDArray[np.int64]
    actions: tuple[Action | None, ...] | None = None

    def __post_init__(self) -> None:
        people, joints = self.scores.shape
        for name, found, expected in (
            ("boxes", self.boxes.shape, (people, 4)),
            ("person_scores", self.person_scores.shape, (people,)),
            ("keypoints", self.keypoints.shape, (people, joints, 2)),
            ("ids", self.ids.shape, (people,)),
        ):
            if found != expected:
                raise ValueError(f"{name} has shape {found}; {expected} was expected")
        if self.actions is not None and len(self.actions) != people:
            raise ValueError(f"{len(self.actions)} actions for {people} people")

    @classmethod
    def empty(cls, frame: int, time: float, joints: int) -> Poses:
        """A frame with nobody in it."""
        return cls(
            frame,
            time,
            np.zeros((0, 4), np.float32),
            np.zeros(0, np.float32),
            np.zeros((0, joints, 2), np.float32),
            np.zeros((0, joints), np.float32),
            np.zeros(0, np.int64),
        )

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int | NDArray[np.bool_] | NDArray[np.integer] | slice) -> Poses:
        """The people that a mask, an index array or a slice picks; a number picks one."""
        if isinstance(index, (int, np.integer)):
            index = np.array([index])
        actions = self.actions
        if actions is not None:
            picked = np.arange(len(self))[index]
            actions = tuple(actions[int(i)] for i in picked)
        # Spelt out: `replace` costs more than all of the picking.
        return Poses(
            self.frame,
            self.time,
            self.boxes[index],
            self.person_scores[index],
            self.keypoints[index],
            self.scores[index],
            self.ids[index],
            actions,
        )
