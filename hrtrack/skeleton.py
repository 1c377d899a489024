"""Keypoint sets as data: names, limbs, mirror pairs and the OKS spread of each joint."""

from __future__ import annotations

from dataclasses import dataclass, field

from .errors import ModelError

Colour = tuple[int, int, int]
LEFT: Colour = (66, 165, 245)
RIGHT: Colour = (255, 138, 61)
MIDDLE: Colour = (126, 217, 87)


@dataclass(frozen=True)
class Skeleton:
    """One keypoint set.

    ``flip_pairs`` are the indices that change places in a mirror image, ``limbs`` the
    pairs of indices that are joined by a line, ``sigmas`` the per-joint constants of the
    COCO object keypoint similarity.
    """

    name: str
    joints: tuple[str, ...]
    limbs: tuple[tuple[int, int], ...]
    flip_pairs: tuple[tuple[int, int], ...]
    sigmas: tuple[float, ...]
    _index: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        count = len(self.joints)
        if len(self.sigmas) != count:
            raise ModelError(
                f"skeleton '{self.name}' has {count} joints but {len(self.sigmas)} sigmas"
            )
        for pair in (*self.limbs, *self.flip_pairs):
            if not all(0 <= joint < count for joint in pair):
                raise ModelError(
                    f"skeleton '{self.name}' has {count} joints; the pair {pair} lies outside"
                )
        object.__setattr__(self, "_index", {name: i for i, name in enumerate(self.joints)})

    def __len__(self) -> int:
        return len(self.joints)

    def index(self, joint: str) -> int:
        """The position of a joint's name; ModelError when there is none."""
        try:
            return self._index[joint]
        except KeyError:
            raise ModelError(f"skeleton '{self.name}' has no joint '{joint}'") from None

    @property
    def mirror(self) -> tuple[int, ...]:
        """For each joint the joint that takes its place in a mirror image."""
        order = list(range(len(self)))
        for a, b in self.flip_pairs:
            order[a], order[b] = b, a
        return tuple(order)

    def limb_colour(self, limb: tuple[int, int]) -> Colour:
        """RGB by body side, so that left and right can be told apart at a glance."""
        sides = {self.side(joint) for joint in limb} - {"middle"}
        if len(sides) != 1:
            return MIDDLE
        return LEFT if sides == {"left"} else RIGHT

    def side(self, joint: int) -> str:
        """``left``, ``right`` or ``middle``, read off the joint's name."""
        name = self.joints[joint]
        return next((s for s in ("left", "right") if name.startswith(s + "_")), "middle")


COCO17 = Skeleton(
    name="coco17",
    joints=(
        "nose", "left_eye", "right_eye", "left_ear", "right_ear",
        "left_shoulder", "right_shoulder", "left_elbow", "right_elbow",
        "left_wrist", "right_wrist", "left_hip", "right_hip",
        "left_knee", "right_knee", "left_ankle", "right_ankle",
    ),
    limbs=(
        (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6), (5, 6), (5, 7), (7, 9), (6, 8), (8, 10),
        (5, 11), (6, 12), (11, 12), (11, 13), (13, 15), (12, 14), (14, 16),
    ),
    flip_pairs=((1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16)),
    sigmas=(
        .026, .025, .025, .035, .035, .079, .079, .072, .072,
        .062, .062, .107, .107, .087, .087, .089, .089,
    ),
)  # fmt: skip

MPII16 = Skeleton(
    name="mpii16",
    joints=(
        "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle",
        "pelvis", "thorax", "upper_neck", "head_top",
        "right_wrist", "right_elbow", "right_shoulder",
        "left_shoulder", "left_elbow", "left_wrist",
    ),
    limbs=(
        (0, 1), (1, 2), (2, 6), (5, 4), (4, 3), (3, 6), (6, 7), (7, 8), (8, 9),
        (7, 12), (12, 11), (11, 10), (7, 13), (13, 14), (14, 15),
    ),
    flip_pairs=((0, 5), (1, 4), (2, 3), (10, 15), (11, 14), (12, 13)),
    sigmas=(
        .089, .083, .107, .107, .083, .089, .026, .026, .026, .026,
        .062, .072, .179, .179, .072, .062,
    ),
)  # fmt: skip

ACTION13 = Skeleton(
    name="action13",
    joints=(
        "head", "left_shoulder", "right_shoulder", "left_elbow", "right_elbow",
        "left_wrist", "right_wrist", "left_hip", "right_hip",
        "left_knee", "right_knee", "left_ankle", "right_ankle",
    ),
    limbs=(
        (0, 1), (0, 2), (1, 2), (1, 3), (3, 5), (2, 4), (4, 6), (1, 7), (2, 8), (7, 8),
        (7, 9), (9, 11), (8, 10), (10, 12),
    ),
    flip_pairs=((1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12)),
    sigmas=(.035, .079, .079, .072, .072, .062, .062, .107, .107, .087, .087, .089, .089),
)  # fmt: skip

BUILT_IN = {skeleton.name: skeleton for skeleton in (COCO17, MPII16, ACTION13)}


def by_name(name: str) -> Skeleton:
    """A built-in keypoint set; ModelError lists the known names otherwise."""
    try:
        return BUILT_IN[name]
    except KeyError:
        known = ", ".join(BUILT_IN)
        raise ModelError(f"unknown skeleton '{name}'; known are {known}") from None


UNKNOWN_SIGMA = 0.079
"""The spread of a joint of which nothing but the name is known: that of COCO's shoulders."""


def with_joints(joints: tuple[str, ...], name: str = "unnamed") -> Skeleton:
    """The keypoint set of these joints: a built-in one, or one that knows no more than them."""
    for skeleton in BUILT_IN.values():
        if skeleton.joints == joints:
            return skeleton
    return Skeleton(name, joints, limbs=(), flip_pairs=(), sigmas=(UNKNOWN_SIGMA,) * len(joints))
