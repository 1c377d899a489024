"""How well a pose fits someone followed: box, motion and joints as one negative log-likelihood."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...geometry import iou
from ...poses import Poses
from ...skeleton import COCO17, Skeleton
from ...types import Float64Array
from . import motion as kalman
from .state import State

LIMB_SPEED = 1.0
"""Spread of a joint's motion against the body in sizes a second; what was known of the pose of
someone who is not seen fades with it."""
TAIL = 3.0
"""Where a coordinate's half squared distance bends into a logarithm: boxes have heavy tails."""
LAST_IOU = 0.3
"""A pair with this overlap (IoU) is matched where neither of the two finds anyone else."""
LAST_RESORT = 0.02
"""The similarity that such a pair has at least, as a share of its overlap."""
CAP = 4.0
"""One joint costs no more than this: a swapped or lost one must not decide."""
STRICT = 0.5
"""Sigmas below this share of COCO's for the same joint say how exactly a benchmark wants it, and
not how far people move: AI Challenger's are a fifth of COCO's."""


@dataclass(frozen=True)
class Deciding:
    """By which of K joints people are told apart: ``joints`` picks J of them out of a last or
    second last axis of K, ``sigmas`` (J,) are their OKS constants."""

    joints: slice | NDArray[np.intp]
    sigmas: Float64Array

    @classmethod
    def of(cls, skeleton: Skeleton) -> Deciding:
        """The body's joints where the skeleton names them (a face alone has 68), and else all."""
        body = np.array(skeleton.body, np.intp)
        joints: slice | NDArray[np.intp] = body if len(body) else slice(None)
        if len(body) and (np.diff(body) == 1).all():  # a view instead of a copy
            joints = slice(int(body[0]), int(body[-1]) + 1)
        usual = dict(zip(COCO17.joints, COCO17.sigmas, strict=True))
        own = np.array(skeleton.sigmas)
        coco = np.array([usual.get(name, 0.0) for name in skeleton.joints])
        return cls(joints, np.where(own < STRICT * coco, coco, own)[joints])


def similarities(
    state: State,
    poses: Poses,
    now: float,
    sigmas: Float64Array,
    joints: slice | NDArray[np.intp] = slice(None),
    *,
    box_noise: float,
    pose_weight: float,
    max_cost: float,
) -> Float64Array:
    """How alike every person followed (T) and every pose (N) are.

    The cost of a pair is the distance of the box from the motion filter's prediction (half the
    squared Mahalanobis distance, bent at `TAIL`, with the log of the centre's variance, so that a
    vague prediction is no better than a sharp one) plus ``pose_weight`` times the mean exponent
    of the OKS over joints that both have seen.

    Args:
        state: people, carried forward to ``now``.
        poses: the frame's people.
        now: seconds.
        sigmas: (J,) OKS constants of the joints that count, times the spread that is allowed.
        joints: which J of the K joints these are, all by default (`Deciding`).
        box_noise: spread of a measured box in person sizes.
        pose_weight: what the pose counts against the box.
        max_cost: pairs that cost more are out of the question.

    Returns:
        (T, N) 1 at no cost, 0 at ``max_cost`` and beyond.
    """
    if len(state.ids) == 0 or len(poses) == 0:
        return np.zeros((len(state.ids), len(poses)))
    boxes = poses.boxes.astype(np.float64)
    sizes = state.motion.sizes
    noise = kalman.variances(state.motion, box_noise)
    variance = state.motion.covariance[:, :, 0] + noise
    error = kalman.to_centres(boxes)[None] - state.motion.position[:, None]
    squared = error**2 / variance[:, None]
    cost = (TAIL * np.log1p(squared / (2 * TAIL))).sum(axis=2)
    cost += 0.5 * np.log(variance / noise)[:, :2].sum(axis=1)[:, None]

    overlap = iou(kalman.to_corners(state.motion.position), boxes)
    near = (error[:, :, :2] ** 2).sum(axis=2) < (1.5 * sizes) ** 2
    who, what = np.nonzero(near | (overlap > 0.1))
    fit = cost[who, what] + pose_weight * _joints(state, poses, who, what, now, sigmas, joints)
    similarity = np.zeros_like(cost)
    similarity[who, what] = np.maximum(1.0 - fit / max_cost, 0.0)
    # Whoever moves out of all expectation is still the only one who can be there.
    return np.maximum(similarity, np.where(overlap > LAST_IOU, LAST_RESORT * overlap, 0.0))


def _joints(
    state: State,
    poses: Poses,
    who: NDArray[np.intp],
    what: NDArray[np.intp],
    now: float,
    sigmas: Float64Array,
    joints: slice | NDArray[np.intp],
) -> Float64Array:
    """The mean OKS exponent (P,) of pairs of a person and a pose, over joints both have seen.

    No `geometry.oks`, whose mean is of likenesses: costs add up, each joint's is capped, and what
    was known of a pose fades with time.
    """
    unseen = (now - state.measured)[:, None]
    spread = 2.0 * ((2.0 * sigmas) ** 2 + (LIMB_SPEED * unseen) ** 2) * state.motion.sizes**2
    gap = poses.keypoints[:, joints][what].astype(np.float64) - state.shape[:, joints][who]
    gap *= gap  # and not a sum along the last axis, of two, which takes numpy four times as long
    exponent = np.minimum((gap[:, :, 0] + gap[:, :, 1]) / spread[who], CAP)
    weight = state.scores[:, joints][who] * poses.scores[:, joints][what]
    total = weight.sum(axis=1)
    mean = (exponent * weight).sum(axis=1) / np.maximum(total, 1e-9)
    # Where no joint was seen in common, what a typical match would cost.
    return np.where(total > 0, mean, 0.5)


def association_probability(
    similarity: Float64Array,
    rows: NDArray[np.intp],
    columns: NDArray[np.intp],
    rivals: NDArray[np.bool_],
    max_cost: float,
) -> Float64Array:
    """The chance (P,) that a pose shows the person it was given to, and nobody else.

    As in joint probabilistic data association (Fortmann, Bar-Shalom, Scheffe 1983), of which the
    hypotheses are the matching (``rows``, ``columns``) and those in which one other person takes
    the pose: someone who was matched in exchange for the own one, someone who was not for nothing.

    Args:
        similarity: (T, N) as `similarities` gives it.
        rows, columns: (P,) the matching.
        rivals: (T,) who counts as another person.
        max_cost: what a similarity of 0 stands for.
    """
    likelihood = (similarity - 1.0) * max_cost  # its logarithm
    own = likelihood[rows, columns]
    odds = likelihood[:, columns] - own
    odds[rows] += likelihood[rows[None], columns[:, None]] - own[:, None]
    odds[rows, np.arange(len(rows))] = -np.inf
    odds[~rivals] = -np.inf
    return 1.0 / (1.0 + np.exp(odds).sum(axis=0))
