"""Identities: which pose of this frame is which person of the frames before."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...geometry import aligned_oks, area, iou
from ...poses import Poses, joined
from ...skeleton import Skeleton
from ...types import BoolArray, Float64Array
from . import motion as kalman
from .assign import match
from .body_boxes import Detected, body_boxes, reaches
from .similarity import Deciding, association_probability, similarities
from .state import Carried, Live, Proposals, Sighting, State

if TYPE_CHECKING:
    from .flow import Flow

STEADY = 0.5
"""Time constant in seconds with which the velocity of people in view fades between two frames that
lie farther apart than `kalman.HOLD`: whoever swings to and fro has turned round by then."""
STEADIEST = 30.0
"""The longest time constant in seconds: practically constant velocity."""
FLOW_NOISE = 0.01
"""Spread in sizes of a body's step from one frame to the next as optical flow finds it."""
DRIFT_TIME = 0.3
"""Time constant in seconds of the mean of how far joints go astray."""
TWICE = 0.55
"""A pose and one that was carried, or two carried ones, more alike (OKS) than this are one person.
Less than for two estimated poses, because carried joints are off by themselves."""
SHORTEST_MEMORY = 0.1
"""Seconds for which everybody is remembered, however shortly they were in view."""
REWOUND = 0.5
"""Seconds that a clock has to go back to mean another showing rather than a late frame."""


class Tracks:
    """The people being followed.

    IDs start at 1 and are never given twice. What is kept is bounded by the people seen
    during the last ``options.memory`` seconds.
    """

    def __init__(self, skeleton: Skeleton, options: AssociationOptions | None = None) -> None:
        self.options = options or AssociationOptions()
        self.alarms = 0
        """Counts how often a track weakened or was lost; a change asks for the detector."""
        self._deciding = Deciding.of(skeleton)
        self._sigmas = self._deciding.sigmas * self.options.pose_spread
        self._reach = reaches(skeleton)
        self._joints = len(skeleton)
        self._time = float("-inf")
        self._first = True
        self._next_id = 1
        self._next_key = 1
        self._has_budget = False
        self._state = self._empty()

    def __len__(self) -> int:
        return len(self._state.ids)

    @property
    def ids_given(self) -> int:
        """How many IDs were handed out so far."""
        return self._next_id - 1

    def live(self, time: float) -> Live:
        """The people seen in the newest frame, carried forward to ``time`` seconds."""
        state = self._state[self._state.seen >= self._time]
        moved = self._ahead(state, time)
        shift = moved.position[:, :2] - state.motion.position[:, :2]
        return Live(
            state.keys,
            state.ids,
            kalman.to_corners(moved.position),
            moved.velocity[:, :2],
            state.bodies + np.tile(shift, 2),
            state.box_scores,
            state.measured,
            state.carried,
            state.drift,
            np.minimum(self._joint_score(state.scores) / np.maximum(state.quality, 1e-6), 1.0),
        )

    def lost(self, time: float) -> Float64Array:
        """Boxes (M, 4) in which people who are remembered but not in view would be by now."""
        state = self._state[self._state.seen < self._time]
        seconds = float(np.clip(time - self._time, 0.0, 1.0)) if len(state.ids) else 0.0
        options = self.options
        moved = kalman.predict(state.motion, seconds, options.acceleration, options.damping)
        return kalman.to_corners(moved.position)

    def end_all(self) -> None:
        """Forgets everybody, as at a cut: whoever comes next is new and gets an ID at once."""
        self._state = self._empty()
        self._first = True

    def sighting(self) -> Sighting:
        """Who was where in the newest frame."""
        state = self._state[self._state.seen >= self._time]
        certain = state.scores >= self.options.joint_score
        return Sighting(state.keys, state.bodies, state.keypoints, certain, self.lost(self._time))

    def renew_boxes(
        self, then: Sighting, rows: NDArray[np.intp], boxes: Float64Array, time: float
    ) -> Float64Array:
        """Enters what the detector drew in an earlier frame around people who are in view still.

        Args:
            then: who was where in that frame.
            rows: the people (N,) among these.
            boxes: what the detector drew around them (N, 4).
            time: seconds to which the boxes are carried.

        Returns:
            The boxes (N, 4), moved and scaled as the joints have moved and spread since.
        """
        state = self._state
        mine = state.rows_of(then.keys[rows])
        least = self.options.joint_score
        keypoints, scores = state.keypoints[mine], state.scores[mine]
        detected = Detected(boxes, then.keypoints[rows], then.certain[rows])
        state.detected_boxes[mine], state.detected_keypoints[mine] = (
            detected.boxes,
            detected.keypoints,
        )
        state.detected_certain[mine] = detected.certain
        shift = kalman.to_centres(state.bodies[mine]) - kalman.to_centres(then.bodies[rows])
        certain = scores >= least
        carried = detected.carried(keypoints, certain, boxes + np.tile(shift[:, :2], 2))
        state.bodies[mine] = body_boxes(keypoints, scores, carried, self._reach, least)
        shift = self._ahead(state, time).position - state.motion.position
        return carried + np.tile(shift[mine, :2], 2)

    def update(
        self, poses: Poses, proposals: Proposals | None = None, to_carry: Carried | None = None
    ) -> Poses:
        """Gives the people of the next frame their IDs.

        Args:
            poses: the frame's people as estimated, one for each proposal, whatever their ``ids``.
            proposals: the boxes in which the poses were found. None where the detector found all of
                them in this very frame.
            to_carry: people in view who were not estimated in this frame. They are carried on and
                count as seen, unless somebody else's box turned out to show them, or they
                were carried to where somebody else is.

        Returns:
            The confirmed people: duplicates merged, weak and unconfirmed ones left out, and those
            of whom no joints are worth showing. Those who were carried come last.
        """
        options = self.options
        if proposals is None:
            proposals = Proposals.from_detections(poses.boxes, poses.person_scores)
        if poses.time < self._time - REWOUND:
            self._state = self._empty()
            self._time = poses.time
        now = max(poses.time, self._time)
        seconds = now - self._time if len(self._state.ids) else 0.0
        previous, self._time = self._time, now
        poses, bodies, detected = self._refined(poses, proposals)
        self._forget(previous)
        good = np.flatnonzero(poses.person_scores >= options.low_score)
        poses = _picked(poses, good)
        kept, stand = unique(poses, self._deciding, options.duplicate_oks)
        given = good[kept]
        state = self._state
        in_view = state.seen >= previous
        self._predict(state, seconds, in_view)
        similarity = self._similarity(poses, len(kept), stand)
        mine = proposals.track_keys[good]
        poses = _picked(poses, kept)
        if to_carry is not None:
            self._find_again(similarity, poses, to_carry, mine, stand)
        rows, columns, sure = self._associate(similarity, poses, in_view)

        missing = in_view & (state.ids > 0)
        missing[rows] = False
        resting, carried = self._resting(to_carry, rows, poses[columns])
        missing[resting] = False
        self.alarms += int(missing.sum())
        self._correct(rows, _picked(poses, columns), sure, proposals.detected)
        before = len(state.ids)
        new = poses.person_scores >= options.min_score
        new[columns] = False
        if new.any() and len(columns):
            new &= iou(poses.boxes, poses.boxes[columns]).max(axis=1) < options.new_iou
        owners = np.full(len(poses), -1)
        owners[columns] = rows
        if new.any():
            owners[new] = len(state.ids) + np.arange(int(new.sum()))
            state = state.joined(self._started(poses[new]))
        worth = (poses.scores >= options.joint_score).sum(axis=1)
        worth = worth >= min(options.shown_joints, self._joints)
        seen = np.zeros(len(state.ids), bool)
        seen[owners[owners >= 0]] = worth[owners >= 0]
        fresh = np.arange(len(state.ids)) >= before
        self._confirm(state, seen, fresh)
        self._first = self._first and len(poses) == 0

        shown = np.flatnonzero(owners >= 0)
        owners, source = owners[shown], given[shown]
        state.box_scores[owners] = proposals.scores[source]
        state.bodies[owners] = bodies[source]
        state.detected_boxes[owners] = detected.boxes[source]
        state.detected_keypoints[owners] = detected.keypoints[source]
        state.detected_certain[owners] = detected.certain[source]
        ids = state.ids[owners]
        others = None if carried is None else self._carry(state, resting, carried, poses)
        self._state = state
        self._forget(now)
        result = replace(_picked(poses, shown), ids=ids)
        people = (ids > 0) & worth[shown]
        result = result if people.all() else result[people]
        return result if others is None else joined(result, others)

    def to_carry(self, proposals: Proposals, flow: Flow | None = None) -> Carried:
        """The people in view of these proposals, to be carried on instead of estimated.

        With ``flow``, which has seen the new picture, their joints are found again in it. Whoever
        carries people on asks in every frame, from the first one on.
        """
        self._has_budget = True
        state = self._state
        rows = state.rows_of(proposals.track_keys)
        proposals, rows = proposals[rows >= 0], rows[rows >= 0]
        keypoints, centres = state.keypoints[rows], state.motion.position[rows, :2]
        if flow is None:
            return Carried(proposals, keypoints, centres, np.zeros(len(rows), bool))
        certain = state.scores[rows] >= self.options.joint_score
        moved, shifts, found = flow(keypoints, certain, state.motion.sizes[rows, 0])
        return Carried(proposals, moved, centres + shifts, found)

    def _find_again(
        self,
        similarity: Float64Array,
        poses: Poses,
        carried: Carried,
        keys: NDArray[np.int64],
        stand: NDArray[np.intp],
    ) -> None:
        """Gives poses that belong to nobody yet to those of the ``carried`` whom they show.

        The detector takes people for new whose boxes were carried astray. ``keys`` are those of
        the proposals of all the poses for which ``poses`` stand by ``stand``.
        """
        state = self._state
        rows = state.rows_of(carried.proposals.track_keys)
        carried, rows = carried[rows >= 0], rows[rows >= 0]
        if not len(rows) or not len(poses):
            return
        own = state.rows_of(keys)
        taken = np.zeros(len(poses), bool)
        np.logical_or.at(taken, stand, (own >= 0) & (state.ids[own] > 0))
        alike = self._alike(carried, rows, poses)
        alike[:, taken] = 0.0
        similarity[rows] = np.maximum(similarity[rows], np.where(alike > TWICE, alike, 0.0))

    def _resting(
        self, to_carry: Carried | None, found: NDArray[np.intp], poses: Poses
    ) -> tuple[NDArray[np.intp], Carried | None]:
        """The rows of those who are carried indeed.

        That is all but those ``found`` in others' boxes, and but for second tracks of one person:
        whoever was carried onto one of these ``poses``, or onto somebody who is followed for
        longer, is lost.
        """
        if to_carry is None:
            return np.zeros(0, np.intp), None
        rows = self._state.rows_of(to_carry.proposals.track_keys)
        kept = (rows >= 0) & ~np.isin(rows, found)
        rows, carried = rows[kept], to_carry[kept]
        second = self._alike(carried, rows, poses).max(axis=1, initial=0.0) > TWICE
        among = self._alike(carried, rows, None) > TWICE
        for place in np.flatnonzero(~second):
            second[place] = among[:place][~second[:place], place].any()
        return rows[~second], carried[~second]

    def _alike(self, carried: Carried, rows: NDArray[np.intp], poses: Poses | None) -> Float64Array:
        """The OKS (N, M) of N carried people with M poses, or with each other, where boxes meet."""
        deciding, boxes = self._deciding, carried.proposals.boxes
        # Whom no picture found again the motion filter has carried.
        found = carried.found[:, None, None]
        keypoints = np.where(found, carried.keypoints, self._state.keypoints[rows])
        keypoints = keypoints[:, deciding.joints]
        scores = self._state.scores[rows][:, deciding.joints]
        others, theirs, sure = boxes, keypoints, scores
        if poses is not None:
            others = poses.boxes.astype(np.float64)
            theirs = poses.keypoints[:, deciding.joints].astype(np.float64)
            sure = poses.scores[:, deciding.joints].astype(np.float64)
        alike = np.zeros((len(boxes), len(others)))
        a, b = np.nonzero(iou(boxes, others) >= MIN_IOU)
        if len(a):
            areas = np.maximum(area(boxes)[a], area(others)[b])
            weights = np.minimum(scores[a], sure[b])
            alike[a, b] = aligned_oks(keypoints[a], theirs[b], areas, deciding.sigmas, weights)
        return alike

    def _carry(
        self, state: State, rows: NDArray[np.intp], carried: Carried, poses: Poses
    ) -> Poses | None:
        """Lets people who were not estimated count as seen; those of them who are shown."""
        if not len(rows):
            return None
        least = self.options.joint_score
        boxes = self._flowed(state, rows, carried)
        state.seen[rows] = self._time
        state.carried[rows] += 1
        state.box_scores[rows], state.bodies[rows] = boxes.scores, boxes.boxes
        keypoints, scores = state.keypoints[rows], state.scores[rows]
        renewed = boxes.from_detector
        state.detected_boxes[rows[renewed]] = boxes.boxes[renewed]
        state.detected_keypoints[rows[renewed]] = keypoints[renewed]
        state.detected_certain[rows[renewed]] = scores[renewed] >= least
        worth = (scores >= least).sum(axis=1) >= min(self.options.shown_joints, self._joints)
        return Poses(
            poses.frame,
            poses.time,
            boxes.boxes.astype(np.float32),
            state.person_scores[rows].astype(np.float32),
            keypoints.astype(np.float32),
            scores.astype(np.float32),
            state.ids[rows],
            estimated=np.zeros(len(rows), bool),
        )[worth & (state.ids[rows] > 0)]

    def _flowed(self, state: State, rows: NDArray[np.intp], carried: Carried) -> Proposals:
        """Enters where people were found again; their boxes, which the motion filter guessed."""
        found, boxes = carried.found, carried.proposals
        if not found.any():
            return boxes
        mine = rows[found]
        motion = state.motion[mine]
        beside = carried.centres[found] - motion.position[:, :2]
        there = kalman.to_corners(motion.position) + np.tile(beside, 2)
        moved = kalman.correct(motion, there, FLOW_NOISE, np.ones(len(mine)))
        state.motion[mine] = moved
        state.shape[mine] += beside[:, None]
        state.keypoints[mine] = carried.keypoints[found]
        guessed = ~boxes.from_detector[found]
        shifted = boxes.boxes.copy()
        shifted[np.flatnonzero(found)[guessed]] += np.tile(beside[guessed], 2)
        return replace(boxes, boxes=shifted)

    def _refined(self, poses: Poses, proposals: Proposals) -> tuple[Poses, Float64Array, Detected]:
        """The poses with boxes that fit them, these boxes (N, 4), and what the detector found.

        A box that the detector did not find was but a guess from the motion before; the pose in
        it tells where the person is. Without that the motion would be measured by its own guess.
        """
        state, least = self._state, self.options.joint_score
        certain = poses.scores >= least
        rows = state.rows_of(proposals.track_keys)
        rows[proposals.from_detector] = -1
        detected = Detected(state.detected_boxes, state.detected_keypoints, state.detected_certain)
        detected = detected.renewed(poses, rows, certain)
        carried = detected.carried(poses.keypoints, certain, poses.boxes)
        bodies = body_boxes(poses.keypoints, poses.scores, carried, self._reach, least)
        if not proposals.from_detector.all():
            boxes = np.where(proposals.from_detector[:, None], poses.boxes, bodies)
            poses = replace(poses, boxes=boxes.astype(np.float32))
        return poses, bodies, detected

    def _ahead(self, state: State, time: float) -> kalman.Motion:
        """Where people in view will be at ``time`` seconds."""
        seconds = float(np.clip(time - self._time, 0.0, 1.0)) if len(state.ids) else 0.0
        return kalman.predict(state.motion, seconds, self.options.acceleration, _steady(seconds))

    def _empty(self) -> State:
        return self._started(Poses.empty(0, 0.0, self._joints))

    def _forget(self, newest: float) -> None:
        """Drops people who were last seen before ``newest`` and longer ago than the memory.

        Nobody is remembered for longer than they were in view before, plus `SHORTEST_MEMORY`; those
        who were never confirmed are dropped at once.
        """
        state = self._state
        unseen = self._time - state.seen
        long_enough = unseen <= state.seen - state.since + SHORTEST_MEMORY
        in_view = state.seen >= newest
        kept = np.where(state.ids > 0, unseen <= self.options.memory, in_view)
        kept &= long_enough | in_view
        if not kept.all():
            self._state = state[kept]

    def _predict(self, state: State, seconds: float, in_view: BoolArray) -> None:
        """Carries everyone forward."""
        if len(state.ids) == 0:
            return
        moved = kalman.predict(
            state.motion,
            seconds,
            self.options.acceleration,
            np.where(in_view, _steady(seconds), self.options.damping),
        )
        shift = (moved.position - state.motion.position)[:, None, :2]
        state.keypoints += shift
        state.shape += shift
        state.motion = moved

    def _similarity(self, poses: Poses, kept: int, stand: NDArray[np.intp]) -> Float64Array:
        """How alike the people followed and the ``kept`` poses are.

        ``stand`` says which of the kept poses replaced each duplicate. A kept pose takes the
        highest similarity of all the poses it replaced: where the predicted box of someone ran
        ahead and the detector found the same person elsewhere, the pose in the predicted box is
        dropped as a duplicate, but it is the one that tells who it is.
        """
        options = self.options
        similarity = similarities(
            self._state,
            poses,
            self._time,
            self._sigmas,
            self._deciding.joints,
            box_noise=options.box_noise,
            pose_weight=options.pose_weight,
            max_cost=options.max_cost,
        )
        if kept == len(poses):
            return similarity
        folded = np.zeros((kept, len(similarity)))
        np.maximum.at(folded, stand, similarity.T)
        return folded.T

    def _associate(
        self, similarity: Float64Array, poses: Poses, in_view: BoolArray
    ) -> tuple[NDArray[np.intp], NDArray[np.intp], Float64Array]:
        """Rows of the state, the columns of the poses they match, and how sure that is."""
        options = self.options
        strong = poses.person_scores >= options.min_score
        known = self._state.ids > 0
        free = np.ones(len(poses), bool)
        rows, columns = _matched(similarity, known, strong)
        left = known & in_view
        for people, given in ((left, ~strong), (~known, strong)):
            people[rows] = False
            free[columns] = False
            more = _matched(similarity, people, given & free)
            rows, columns = np.concatenate([rows, more[0]]), np.concatenate([columns, more[1]])
        # Whoever has no ID yet may be someone else seen twice, and is nobody's rival.
        return (
            rows,
            columns,
            association_probability(similarity, rows, columns, known, options.max_cost),
        )

    def _correct(
        self, rows: NDArray[np.intp], poses: Poses, sure: Float64Array, detected: bool
    ) -> None:
        """Enters what was measured of the matched people, cautiously where it may be another."""
        state, options = self._state, self.options
        if len(rows) == 0:
            return
        boxes = poses.boxes.astype(np.float64)
        moved = kalman.correct(state.motion[rows], boxes, options.box_noise, sure)
        state.motion[rows] = moved
        seconds = np.maximum(self._time - state.measured[rows], 1e-3)
        trust = np.minimum(state.scores[rows], poses.scores)
        if self._has_budget:  # which alone reads the drift
            self._observe_drift(rows, poses.keypoints - state.keypoints[rows], trust, seconds)
        state.keypoints[rows] = poses.keypoints
        age = seconds[:, None, None]
        share = (1.0 - np.exp(-age / options.pose_time)) * poses.scores[..., None]
        share = share * sure[:, None, None]
        state.shape[rows] += share * (poses.keypoints - state.shape[rows])
        state.scores[rows] = poses.scores
        state.person_scores[rows] = poses.person_scores
        quality = self._joint_score(poses.scores)
        usual = state.quality[rows]
        self.alarms += int(((quality < options.weak_share * usual) & (state.ids[rows] > 0)).sum())
        state.quality[rows] = usual + 0.1 * (quality - usual)
        state.seen[rows] = state.measured[rows] = self._time
        state.carried[rows] = 0
        state.hits[rows] += int(detected)

    def _joint_score(self, scores: NDArray[np.floating]) -> NDArray[np.floating]:
        """The mean score (N,) of the joints by which people are told apart."""
        return scores[:, self._deciding.joints].mean(axis=1)

    def _observe_drift(
        self,
        rows: NDArray[np.intp],
        astray: Float64Array,
        trust: Float64Array,
        seconds: Float64Array,
    ) -> None:
        """Enters how far joints (N, K, 2) lay from where their motion would have carried them."""
        state = self._state
        weight = np.clip(trust / self.options.joint_score, 0.0, 1.0)
        off = np.hypot(astray[:, :, 0], astray[:, :, 1]) / (
            state.motion.sizes[rows] * seconds[:, None]
        )
        mean = (off * weight).sum(axis=1) / np.maximum(weight.sum(axis=1), 1e-9)
        share = 1.0 - np.exp(-seconds / DRIFT_TIME)
        state.drift[rows] += share * (mean - state.drift[rows])

    def _started(self, poses: Poses) -> State:
        """Tracks of people never seen before, without IDs."""
        count = len(poses)
        keys = np.arange(self._next_key, self._next_key + count)
        self._next_key += count
        keypoints = poses.keypoints.astype(np.float64)
        scores = poses.scores.astype(np.float64)
        return State(
            keys=keys,
            ids=np.zeros(count, np.int64),
            motion=kalman.start(poses.boxes.astype(np.float64), self.options.box_noise),
            keypoints=keypoints,
            shape=keypoints.copy(),
            scores=scores,
            person_scores=poses.person_scores.astype(np.float64),
            quality=scores[:, self._deciding.joints].mean(axis=1),
            since=np.full(count, self._time),
            seen=np.full(count, self._time),
            hits=np.ones(count, np.int64),
            box_scores=np.zeros(count),
            bodies=np.zeros((count, 4)),
            detected_boxes=np.zeros((count, 4)),
            detected_keypoints=np.zeros((count, self._joints, 2)),
            detected_certain=np.zeros((count, self._joints), bool),
            measured=np.full(count, self._time),
            carried=np.zeros(count, np.int64),
            drift=np.zeros(count),
        )

    def _confirm(self, state: State, seen: BoolArray, fresh: BoolArray) -> None:
        """Gives IDs to the new people who have been seen often enough, joints and all.

        ``seen`` (T,) marks whose joints this frame shows, ``fresh`` (T,) who begins in it.
        In the first frame with people there is nothing to wait for: a photo has only one.
        """
        options = self.options
        unconfirmed = (state.ids == 0) & seen
        if not unconfirmed.any():
            return
        if self._first:
            enough = unconfirmed
        else:
            boxes = kalman.to_corners(state.motion.position)
            beside = iou(boxes, boxes[state.ids > 0]).max(axis=1, initial=0.0) > options.beside_iou
            needed = np.where(beside, options.beside_hits, options.confirm_hits)
            sure = (state.person_scores >= options.sure_score) & ~fresh & ~beside
            enough = unconfirmed & (sure | (state.hits >= needed))
        count = int(enough.sum())
        state.ids[enough] = np.arange(self._next_id, self._next_id + count)
        self._next_id += count


def _steady(seconds: float) -> float:
    """The time constant of velocities in view over a step; they fade only beyond `kalman.HOLD`."""
    beyond = seconds - kalman.HOLD
    return min(STEADY * seconds / beyond, STEADIEST) if beyond > 0 else STEADIEST


def _matched(
    similarity: Float64Array, people: BoolArray, given: BoolArray
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The best matching of some of the people with some of the poses."""
    if not people.any() or not given.any():
        return np.zeros(0, np.intp), np.zeros(0, np.intp)
    some_rows, some_columns = np.flatnonzero(people), np.flatnonzero(given)
    rows, columns = match(similarity[some_rows[:, None], some_columns])
    return some_rows[rows], some_columns[columns]


def _picked(poses: Poses, index: NDArray[np.intp]) -> Poses:
    """``poses[index]``, without a copy where that is everybody in order."""
    if len(index) == len(poses) and (index[1:] > index[:-1]).all():
        return poses
    return poses[index]


@dataclass(frozen=True)
class AssociationOptions:
    """The knobs of the association; docs/tracking.md shows what each of them does.

    Scores are person scores in [0, 1]; times are seconds; lengths are person sizes (the
    mean of a box's width and height). The two bands follow ByteTrack (Zhang et al. 2022).
    """

    min_score: float = 0.25
    """Poses at or above it are matched first, and start a track where they match nobody."""
    low_score: float = 0.1
    """Poses between it and ``min_score`` may only continue a track in view."""
    sure_score: float = 0.6
    """A new person this certain gets an ID in the second frame, others after `confirm_hits`."""
    confirm_hits: int = 2
    """Detector frames that must see a new person before it gets an ID."""
    memory: float = 2.0
    """Seconds for which a person who is not seen keeps the ID. Someone who was in view for a
    shorter time is forgotten sooner, after as long as that and `SHORTEST_MEMORY`."""
    new_iou: float = 0.7
    """Nobody new is seen where a box overlaps more with someone already followed."""
    beside_iou: float = 0.3
    """A new person whose box overlaps more with someone followed may be that one seen twice, and
    gets an ID only after `beside_hits`."""
    beside_hits: int = 6
    """Detector frames that must see a new person beside someone who is followed."""
    pose_weight: float = 9.0
    """What the mean OKS exponent of the joints counts against the box's half squared distance."""
    pose_spread: float = 2.5
    """Factor on the skeleton's sigmas: how far joints may be off and still be alike."""
    pose_time: float = 0.05
    """Time constant with which the remembered pose follows the measured one."""
    max_cost: float = 16.0
    """Pairs that cost more than this are out of the question."""
    box_noise: float = 0.03
    """Spread of the centre of a measured box."""
    acceleration: float = 8.0
    """Spread of people's acceleration in sizes a second squared."""
    damping: float = 1.0
    """Time constant with which the velocity of an unseen person dies away."""
    duplicate_oks: float = 0.7
    """Two poses of one frame more alike than this are one person."""
    weak_share: float = 0.5
    """A track whose joint score falls below this share of its mean asks for the detector."""
    joint_score: float = 0.3
    """Joints below it do not shape a person's box, and are not worth showing."""
    shown_joints: int = 3
    """Someone with fewer joints worth showing gets no ID and is left out of the results, while
    the track goes on: an empty box is nobody."""


MIN_IOU = 0.2
"""Boxes that overlap less cannot hold one person twice; spares the OKS of most frames."""


def unique(
    poses: Poses, deciding: Deciding, threshold: float
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The people left when those with an OKS over ``threshold`` count as one.

    Of two that are alike the one with the higher person score stays, and of two with the
    same score the one with the better joints. The order of the rest is kept.

    Returns:
        The M poses that stay, and for each of all N poses the place among these of the one
        that stands for it, which is itself where it stays.
    """
    count = len(poses)
    everyone = np.arange(count)
    if count < 2:
        return everyone, everyone
    first, second = np.nonzero(iou(poses.boxes, poses.boxes) >= MIN_IOU)
    later = second > first
    first, second = first[later], second[later]
    if len(first) == 0:
        return everyone, everyone
    areas = area(poses.boxes)
    keypoints = poses.keypoints[:, deciding.joints].astype(np.float64)
    scores = poses.scores[:, deciding.joints]
    weights = np.minimum(scores[first], scores[second]).astype(np.float64)
    similarity = aligned_oks(
        keypoints[first], keypoints[second], np.maximum(areas[first], areas[second]),
        deciding.sigmas, weights,
    )  # fmt: skip
    same = similarity > threshold
    if not same.any():
        return everyone, everyone
    rivals: dict[int, set[int]] = {}
    for one, other in zip(first[same].tolist(), second[same].tolist(), strict=True):
        rivals.setdefault(one, set()).add(other)
        rivals.setdefault(other, set()).add(one)
    order = np.lexsort((-scores.mean(axis=1), -poses.person_scores))
    stand: dict[int, int] = {}  # who stands for those that go
    for person in order.tolist():
        if person not in stand:
            stand.update((rival, person) for rival in rivals.get(person, ()) if rival not in stand)
    kept = np.delete(everyone, sorted(stand))
    return kept, np.searchsorted(kept, [stand.get(person, person) for person in range(count)])
