"""The knobs of the association."""

from __future__ import annotations

from dataclasses import dataclass


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
    """How long a person who is not seen may come back and get the ID again; nobody for longer
    than they were seen before."""
    new_iou: float = 0.7
    """Nobody new is seen where a box overlaps more with someone already followed."""
    beside_iou: float = 0.3
    """A new person whose box overlaps more with someone followed may be that one seen twice,"""
    beside_hits: int = 6
    """and needs so many detector frames."""
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
