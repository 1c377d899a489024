"""Keypoint sets as data: names, limbs, mirror pairs and the OKS sigma of each joint."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import ModelError

if TYPE_CHECKING:
    from .skeleton_file import SkeletonFile

Colour = tuple[int, int, int]
LEFT: Colour = (66, 165, 245)
RIGHT: Colour = (255, 138, 61)
MIDDLE: Colour = (126, 217, 87)


@dataclass(frozen=True)
class Skeleton:
    """One keypoint set.

    - ``joints``: the names, in the order of the pose model.
    - ``limbs``: pairs of indices of joints that are connected by a line.
    - ``flip_pairs``: pairs of indices of a left and a right joint, which exchange their roles in a
      mirror image.
    - ``sigmas``: the constant of each joint in COCO's object keypoint similarity (OKS).
    - ``body``: the indices of the joints that the tracker compares to tell people apart. If it is
      empty, it compares all joints. Hands and faces have many joints and would outweigh the body.
    """

    name: str
    joints: tuple[str, ...]
    limbs: tuple[tuple[int, int], ...]
    flip_pairs: tuple[tuple[int, int], ...]
    sigmas: tuple[float, ...]
    body: tuple[int, ...] = ()
    _index: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        count = len(self.joints)
        if len(self.sigmas) != count:
            raise ModelError(
                f"skeleton '{self.name}' has {count} joints but {len(self.sigmas)} sigmas"
            )
        for pair in (*self.limbs, *self.flip_pairs, self.body):
            if not all(0 <= joint < count for joint in pair):
                raise ModelError(
                    f"skeleton '{self.name}' has {count} joints; the pair {pair} lies outside"
                )
        object.__setattr__(self, "_index", {name: i for i, name in enumerate(self.joints)})

    def __len__(self) -> int:
        return len(self.joints)

    def index(self, joint: str) -> int:
        """The index of the joint with this name; ModelError if there is none."""
        try:
            return self._index[joint]
        except KeyError:
            raise ModelError(f"skeleton '{self.name}' has no joint '{joint}'") from None

    @property
    def mirror(self) -> tuple[int, ...]:
        """For each joint, the index of the joint that takes its place in a mirror image."""
        order = list(range(len(self)))
        for a, b in self.flip_pairs:
            order[a], order[b] = b, a
        return tuple(order)

    def limb_colour(self, limb: tuple[int, int]) -> Colour:
        """The RGB colour of a limb, which shows whether it is left, right or in the middle."""
        sides = {self.side(joint) for joint in limb} - {"middle"}
        if len(sides) != 1:
            return MIDDLE
        return LEFT if sides == {"left"} else RIGHT

    def side(self, joint: int) -> str:
        """``left``, ``right`` or ``middle``, according to the joint's name."""
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

CODED = {skeleton.name: skeleton for skeleton in (COCO17, MPII16, ACTION13)}
"""The sets that the code itself uses; the others are in `skeletons.yaml`."""
IN_FILE = (
    "halpe26", "wholebody133", "aic14", "crowdpose14", "onehand21", "ap10k17",
)  # fmt: skip
NAMES = (*CODED, *IN_FILE)
BY_COUNT = {
    17: ("coco17", "ap10k17"),
    16: ("mpii16",),
    26: ("halpe26",),
    133: ("wholebody133",),
    21: ("onehand21",),
    14: ("aic14", "crowdpose14"),
}
"""The keypoint sets with each number of joints. OpenMMLab's file names contain the data set."""


@cache
def by_name(name: str) -> Skeleton:
    """The built-in keypoint set with this name; otherwise a ModelError lists the known names."""
    if name in CODED:
        return CODED[name]
    if name not in NAMES:
        raise ModelError(f"unknown skeleton '{name}'; choose one of {', '.join(NAMES)}")
    from .skeleton_file import built_in

    return _of_file(built_in()[name])


def by_joint_count(count: int, source: str | Path = "the model") -> Skeleton:
    """The keypoint set of a model that predicts ``count`` joints but does not name them.

    Args:
        count: the number of joints.
        source: the file of the model. If several sets have this number of joints, the name of a
            data set in the name of the file decides, as in ``hrnet_w32_ap10k``. Without one, 17
            joints are those of COCO.

    Raises:
        ModelError: no known set has this number of joints, or several have it and nothing decides
            between them.
    """
    names = BY_COUNT.get(count, ())
    words = re.split(r"[^a-z0-9]+", Path(source).stem.lower())
    named = [name for name in names if re.sub(r"\d\d$", "", name) in words]
    if named or count == len(COCO17) or len(names) == 1:
        return by_name((*named, *names)[0])
    if names:
        reason = f"which may be {' or '.join(names)}"
    else:
        known = ", ".join(f"{joints} ({' or '.join(sets)})" for joints, sets in BY_COUNT.items())
        reason = f"of a set that is not known; known by their number are {known}"
    raise ModelError(
        f"{source} predicts {count} joints, {reason}; name them with --skeleton NAME or FILE.yaml"
    )


def open_skeleton(given: str | Path | Skeleton) -> Skeleton:
    """A built-in keypoint set by its name, one from a YAML file, or the given `Skeleton` itself.

    Raises:
        ModelError: the name is unknown.
        ConfigError: the file is missing or invalid; the message says what is wrong.
    """
    if isinstance(given, Skeleton):
        return given
    path = Path(given).expanduser()
    if path.suffix.lower() not in (".yaml", ".yml") and not path.is_file():
        return by_name(str(given))
    from .skeleton_file import read_skeleton

    return _of_file(read_skeleton(path))


def _of_file(said: SkeletonFile) -> Skeleton:
    place = {joint: i for i, joint in enumerate(said.joints)}
    return Skeleton(
        said.name,
        said.joints,
        tuple((place[a], place[b]) for chain in said.limbs for a, b in pairwise(chain)),
        tuple((place[a], place[b]) for a, b in said.all_flip_pairs()),
        said.all_sigmas(),
        tuple(place[joint] for joint in said.body),
    )


UNKNOWN_SIGMA = 0.079
"""The sigma of a joint of which only the name is known: that of COCO's shoulders."""


def with_joints(joints: tuple[str, ...], name: str = "unnamed") -> Skeleton:
    """The keypoint set of these joints: a built-in one, or a new one with only the names."""
    for known in (*CODED, *BY_COUNT.get(len(joints), ())):
        if by_name(known).joints == joints:
            return by_name(known)
    return Skeleton(name, joints, limbs=(), flip_pairs=(), sigmas=(UNKNOWN_SIGMA,) * len(joints))
