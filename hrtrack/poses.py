"""The people of one frame, with one array per property."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .errors import BackendError, ModelError
from .skeleton import Skeleton
from .types import BoolArray, Float32Array

if TYPE_CHECKING:
    from supervision import Detections, KeyPoints


@dataclass(frozen=True, slots=True)
class Action:
    """What a person is doing; ``label`` is "unknown" if the confidence is below the threshold."""

    label: str
    score: float


class Joint(NamedTuple):
    """One joint of a person: its position in image pixels and its score in [0, 1]."""

    x: float
    y: float
    score: float


@dataclass(frozen=True, slots=True)
class Person:
    """One person of one frame; iterating over `Poses` gives such objects.

    ``person["left_wrist"]`` and ``person[9]`` are each a `Joint`. ``id`` stays the same over time,
    and is -1 before tracking. ``box`` (4,) is x0, y0, x1, y1 in image pixels, ``keypoints`` are
    (K, 2) and ``scores`` (K,). If ``estimated`` is False, the pose network did not process the
    person in this frame: the joints are the last estimated ones, propagated by their motion.
    """

    id: int
    score: float
    box: Float32Array
    keypoints: Float32Array
    scores: Float32Array
    action: Action | None = None
    skeleton: Skeleton | None = field(default=None, repr=False)
    estimated: bool = True

    def __getitem__(self, joint: str | int) -> Joint:
        """The joint with a name or number; ModelError if the skeleton does not have the name."""
        if isinstance(joint, str):
            if self.skeleton is None:
                raise ModelError(
                    f"these poses do not know which joint is '{joint}': they hold no skeleton"
                )
            joint = self.skeleton.index(joint)
        x, y = self.keypoints[joint].tolist()
        return Joint(x, y, float(self.scores[joint]))


@dataclass(frozen=True, slots=True)
class Poses:
    """The N people of one frame, with one array per property. Coordinates are in image pixels.

    Iterating gives each `Person`: ``for person in poses: person.id, person["left_wrist"]``.

    - ``frame`` is the number of the frame, and ``time`` its time in seconds on the source's clock.
    - ``boxes`` (N, 4) are x0, y0, x1, y1, and ``keypoints`` are (N, K, 2).
    - ``person_scores`` (N,) and ``scores`` (N, K) of the joints lie in [0, 1].
    - ``ids`` (N,) stay the same over time and are never reused; they are -1 before tracking.
    - ``actions`` is None unless you asked for actions. Otherwise it has one entry per person, which
      is None until enough of the person's motion has been seen.
    - ``skeleton`` names the K joints, if they are known.
    - ``estimated`` (N,) is False for people whom the pose network skipped in this frame to save
      time (``target_fps``); their joints are propagated by their motion. If you pass None, it
      becomes True for all.
    - ``source`` names the clip, if the poses were read from a table of several clips.
    """

    frame: int
    time: float
    boxes: Float32Array
    person_scores: Float32Array
    keypoints: Float32Array
    scores: Float32Array
    ids: NDArray[np.int64]
    actions: tuple[Action | None, ...] | None = None
    skeleton: Skeleton | None = field(default=None, repr=False)
    estimated: BoolArray = None  # type: ignore[assignment]
    source: str | None = None

    def __post_init__(self) -> None:
        people, joints = self.scores.shape
        if self.estimated is None:
            object.__setattr__(self, "estimated", np.ones(people, bool))
        for name, found, expected in (
            ("boxes", self.boxes.shape, (people, 4)),
            ("person_scores", self.person_scores.shape, (people,)),
            ("keypoints", self.keypoints.shape, (people, joints, 2)),
            ("ids", self.ids.shape, (people,)),
            ("estimated", self.estimated.shape, (people,)),
        ):
            if found != expected:
                raise ValueError(f"{name} has shape {found}; {expected} was expected")
        if self.actions is not None and len(self.actions) != people:
            raise ValueError(f"{len(self.actions)} actions for {people} people")

    @classmethod
    def empty(cls, frame: int, time: float, joints: int, skeleton: Skeleton | None = None) -> Poses:
        """A frame with nobody in it."""
        return cls(
            frame,
            time,
            np.zeros((0, 4), np.float32),
            np.zeros(0, np.float32),
            np.zeros((0, joints, 2), np.float32),
            np.zeros((0, joints), np.float32),
            np.zeros(0, np.int64),
            None,
            skeleton,
        )

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[Person]:
        """Each person in turn."""
        actions = self.actions or (None,) * len(self)
        for i in range(len(self)):
            yield Person(
                int(self.ids[i]),
                float(self.person_scores[i]),
                self.boxes[i],
                self.keypoints[i],
                self.scores[i],
                actions[i],
                self.skeleton,
                bool(self.estimated[i]),
            )

    def __getitem__(self, index: int | NDArray[np.bool_] | NDArray[np.integer] | slice) -> Poses:
        """The people that a mask, an index array or a slice selects; a number selects one."""
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
            self.skeleton,
            self.estimated[index],
            self.source,
        )

    def to_dict(self) -> dict[str, Any]:
        """The frame as a dictionary for JSON, like a line of a JSONL results file.

        Pixels are rounded to 0.01 and scores to 0.0001. ``skeleton`` is the name of the skeleton.
        ``skeleton`` and ``time`` are None if they are not known. Only people who were not estimated
        have an entry ``estimated``, which is False. Only poses from a table of several clips have
        an entry ``source``.
        """
        boxes = np.round(self.boxes.astype(float), 2).tolist()
        people_scores = np.round(self.person_scores.astype(float), 4).tolist()
        points = np.round(self.keypoints.astype(float), 2)
        scores = np.round(self.scores.astype(float), 4)
        joints = np.concatenate([points, scores[..., None]], axis=2).tolist()
        actions = self.actions or (None,) * len(self)
        people = [
            {
                "id": int(self.ids[i]),
                "score": people_scores[i],
                "box": boxes[i],
                "keypoints": joints[i],
                "action": action_to_dict(actions[i]),
                **carried_entry(self, i),
            }
            for i in range(len(self))
        ]
        return {
            **({} if self.source is None else {"source": self.source}),
            "frame": self.frame,
            "time": None if math.isnan(self.time) else round(self.time, 6),
            "skeleton": None if self.skeleton is None else self.skeleton.name,
            "people": people,
        }

    def to_supervision(self) -> tuple[KeyPoints, Detections]:
        """The people as `supervision.KeyPoints` and as `supervision.Detections`.

        Both have the people in the same order, with class 0. The detections have the identities
        as ``tracker_id`` if everybody has one, and the key points as ``data["id"]``.

        Raises:
            BackendError: supervision is not installed.
        """
        try:
            import supervision
        except ImportError:
            raise BackendError(
                "supervision is missing: pip install 'hrtrack[supervision]'"
            ) from None
        tracked = bool((self.ids >= 0).all())
        people = np.zeros(len(self), np.int64)
        key_points = supervision.KeyPoints(
            xy=self.keypoints,
            class_id=people,
            keypoint_confidence=self.scores,
            detection_confidence=self.person_scores,
            data={"id": self.ids},
        )
        detections = supervision.Detections(
            xyxy=self.boxes,
            confidence=self.person_scores,
            class_id=people.copy(),
            tracker_id=self.ids if tracked else None,
        )
        return key_points, detections


def joined(first: Poses, *others: Poses) -> Poses:
    """The people of all, in order, without actions; frame, time and skeleton are the first's."""
    every = (first, *others)
    return Poses(
        first.frame,
        first.time,
        np.concatenate([one.boxes for one in every]),
        np.concatenate([one.person_scores for one in every]),
        np.concatenate([one.keypoints for one in every]),
        np.concatenate([one.scores for one in every]),
        np.concatenate([one.ids for one in every]),
        None,
        first.skeleton,
        np.concatenate([one.estimated for one in every]),
        first.source,
    )


def carried_entry(poses: Poses, i: int) -> dict[str, bool]:
    """The entry of a results file for a person who was not estimated; empty for all others."""
    return {} if poses.estimated[i] else {"estimated": False}


def estimated_of(people: list[dict[str, Any]]) -> NDArray[np.bool_]:
    """The inverse of `carried_entry`: who (N,) was estimated, which is all others."""
    return np.array([person.get("estimated", True) is not False for person in people], bool)


def action_to_dict(action: Action | None) -> dict[str, Any] | None:
    """A label with its score, or None."""
    return None if action is None else {"label": action.label, "score": round(action.score, 4)}


def action_from_dict(value: Any) -> Action | None:
    """The inverse of `action_to_dict`."""
    return None if value is None else Action(str(value["label"]), float(value["score"]))
