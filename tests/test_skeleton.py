"""The keypoint sets hang together."""

from __future__ import annotations

from pathlib import Path

import pytest

from hrtrack.errors import ConfigError, ModelError
from hrtrack.models.info import PoseInfo, from_metadata
from hrtrack.skeleton import (
    COCO17,
    MPII16,
    NAMES,
    Skeleton,
    by_joint_count,
    by_name,
    open_skeleton,
)


@pytest.mark.parametrize("name", NAMES)
def test_mirror_pairs_swap_left_and_right(name: str) -> None:
    skeleton = by_name(name)
    mirror = skeleton.mirror
    for joint, called in enumerate(skeleton.joints):
        other = skeleton.joints[mirror[joint]]
        swapped = {
            "left": called.replace("left", "right"),
            "right": called.replace("right", "left"),
        }
        if not called.startswith("face_"):  # whose points have numbers
            assert other == swapped.get(skeleton.side(joint), called)
        assert mirror[mirror[joint]] == joint


@pytest.mark.parametrize("name", NAMES)
def test_limbs_are_said_once_and_mirrored(name: str) -> None:
    skeleton = by_name(name)
    limbs = [frozenset(limb) for limb in skeleton.limbs]
    assert len(set(limbs)) == len(limbs)
    assert {joint for limb in limbs for joint in limb} == set(range(len(skeleton)))
    mirror = skeleton.mirror
    assert {frozenset(mirror[joint] for joint in limb) for limb in limbs} == set(limbs)


@pytest.mark.parametrize(
    ("name", "joints", "pairs", "total"),
    [
        ("halpe26", 26, 11, 1.730),
        ("wholebody133", 133, 61, 3.861),
        ("aic14", 14, 6, 0.30056),
        ("crowdpose14", 14, 6, 1.15),
        ("onehand21", 21, 0, 0.553),
        ("ap10k17", 17, 7, 1.138),
    ],
)
def test_counts_and_sigmas_of_the_owners_files(
    name: str, joints: int, pairs: int, total: float
) -> None:
    skeleton = by_name(name)
    assert (len(skeleton), len(skeleton.flip_pairs)) == (joints, pairs)
    assert sum(skeleton.sigmas) == pytest.approx(total, abs=2e-5)


def test_the_body_of_a_whole_body_is_its_first_23_joints() -> None:
    assert by_name("wholebody133").body == tuple(range(23))
    assert by_name("wholebody133").joints[:17] == COCO17.joints
    assert COCO17.body == ()


def test_limb_colours_tell_the_sides_apart() -> None:
    left = COCO17.limb_colour((5, 7))
    right = COCO17.limb_colour((6, 8))
    across = COCO17.limb_colour((5, 6))
    assert len({left, right, across}) == 3
    assert COCO17.limb_colour((0, 1)) == left


def test_lookup() -> None:
    assert by_name("mpii16") is MPII16
    assert COCO17.index("left_ankle") == 15
    with pytest.raises(ModelError, match="unknown skeleton 'coco18'; choose one of coco17"):
        by_name("coco18")
    with pytest.raises(ModelError, match="no joint 'tail'"):
        COCO17.index("tail")


def test_a_skeleton_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ModelError, match="2 joints but 1 sigmas"):
        Skeleton("x", ("a", "b"), (), (), (0.1,))
    with pytest.raises(ModelError, match="lies outside"):
        Skeleton("x", ("a", "b"), ((0, 2),), (), (0.1, 0.1))


@pytest.mark.parametrize(
    ("count", "source", "name"),
    [
        (17, "model.onnx", "coco17"),
        (17, "hrnet_w32_ap10k_256x256-18aac840.pth", "ap10k17"),
        (16, "x.pth", "mpii16"),
        (26, "x.onnx", "halpe26"),
        (133, "hrnet_w48_coco_wholebody_384x288.pth", "wholebody133"),
        (21, "x.onnx", "onehand21"),
        (14, "hrnet_w32_crowdpose_256x192.pth", "crowdpose14"),
        (14, "hrnet_w32_aic_256x192.pth", "aic14"),
    ],
)
def test_a_foreign_model_is_known_by_its_joints(count: int, source: str, name: str) -> None:
    assert by_joint_count(count, source) is by_name(name)


def test_what_the_number_of_joints_does_not_tell_asks_for_the_option() -> None:
    with pytest.raises(ModelError, match=r"14 joints, which may be aic14 or crowdpose14; .*--skel"):
        by_joint_count(14, "model.onnx")
    with pytest.raises(ModelError, match=r"99 joints, .*17 .coco17.*--skeleton NAME or FILE"):
        by_joint_count(99)


OWN = """
name: robot
joints: [top, left_arm, right_arm, port, starboard]
limbs: [[left_arm, top, right_arm], [port, starboard]]
flip_pairs: [[port, starboard]]
sigmas: 0.05
body: [top, port, starboard]
"""


def test_a_skeleton_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "robot.yaml"
    path.write_text(OWN)
    robot = open_skeleton(path)
    assert robot.name == "robot"
    assert robot.limbs == ((1, 0), (0, 2), (3, 4))
    assert robot.mirror == (0, 2, 1, 4, 3)
    assert robot.sigmas == (0.05,) * 5
    assert robot.body == (0, 3, 4)
    told = from_metadata(PoseInfo(robot).metadata(), "robot.onnx")
    assert told is not None
    assert told.skeleton == robot
    path.write_text("joints: [a, b]")
    assert open_skeleton(str(path)).name == "robot"  # as the file is called
    assert open_skeleton("mpii16") is MPII16


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("sigmas: 0.05", "sigma: 0.05"), "unknown key 'sigma'"),
        (("sigmas: 0.05", "sigmas: [0.1]"), "5 joints need as many sigmas, not 1"),
        (("sigmas: 0.05", "sigmas: -1"), "sigmas"),
        (("body: [top", "body: [tip"), "body names the joint 'tip', which joints does not list"),
        (("[port, starboard]]\nf", "[port, stern]]\nf"), "limbs names the joint 'stern'"),
        (
            ("[[port, starboard]]\ns", "[[port, top], [port, starboard]]\ns"),
            "'port' more than once",
        ),
        (("left_arm, right_arm, port", "port, right_arm, port"), "two joints are called 'port'"),
        (("limbs: [[", "limbs: [[top], ["), "limbs.0"),
        (("joints: [", "joints: ["), None),
        (("name: robot", "name: ["), "is not YAML"),
        ((OWN, "- a\n"), "must hold keys"),
        (("joints: [top, left_arm, right_arm, port, starboard]", ""), "joints: Field required"),
    ],
)
def test_a_file_that_does_not_fit_is_told_in_one_line(
    tmp_path: Path, change: tuple[str, str], message: str | None
) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(OWN.replace(*change))
    if message is None:
        assert len(open_skeleton(path)) == 5
        return
    with pytest.raises(ConfigError, match=message) as told:
        open_skeleton(path)
    assert "\n" not in str(told.value)
    assert str(path) in str(told.value)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such skeleton file"):
        open_skeleton(tmp_path / "none.yaml")
    with pytest.raises(ModelError, match="unknown skeleton 'robot'"):
        open_skeleton("robot")
