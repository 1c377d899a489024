"""The keypoint sets hang together."""

from __future__ import annotations

import pytest

from hrtrack.errors import ModelError
from hrtrack.skeleton import BUILT_IN, COCO17, MPII16, Skeleton, by_name


@pytest.mark.parametrize("skeleton", BUILT_IN.values(), ids=BUILT_IN)
def test_mirror_pairs_swap_left_and_right(skeleton: Skeleton) -> None:
    mirror = skeleton.mirror
    for joint, name in enumerate(skeleton.joints):
        other = skeleton.joints[mirror[joint]]
        swapped = {"left": name.replace("left", "right"), "right": name.replace("right", "left")}
        assert other == swapped.get(skeleton.side(joint), name)
        assert mirror[mirror[joint]] == joint


def test_limb_colours_tell_the_sides_apart() -> None:
    left = COCO17.limb_colour((5, 7))
    right = COCO17.limb_colour((6, 8))
    across = COCO17.limb_colour((5, 6))
    assert len({left, right, across}) == 3
    assert COCO17.limb_colour((0, 1)) == left


def test_lookup() -> None:
    assert by_name("mpii16") is MPII16
    assert COCO17.index("left_ankle") == 15
    with pytest.raises(ModelError, match="unknown skeleton 'coco18'; known are coco17"):
        by_name("coco18")
    with pytest.raises(ModelError, match="no joint 'tail'"):
        COCO17.index("tail")


def test_a_skeleton_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ModelError, match="2 joints but 1 sigmas"):
        Skeleton("x", ("a", "b"), (), (), (0.1,))
    with pytest.raises(ModelError, match="lies outside"):
        Skeleton("x", ("a", "b"), ((0, 2),), (), (0.1, 0.1))
