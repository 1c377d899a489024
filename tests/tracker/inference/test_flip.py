"""The flip test in the tracker."""

import av
import numpy as np
import pytest

from hrtrack import Tracker
from hrtrack.cli import main
from hrtrack.evaluation.predict import Protocol, run
from hrtrack.models.agreement import drawn_crops
from hrtrack.models.pose.flip import FlipTest, mirrored
from hrtrack.tracker.inference.open import open_network

from ..clips import make_clip


@pytest.fixture(scope="module")
def networks():
    plain = open_network("body_fast", precision="fp32")
    return plain, FlipTest(plain)


def test_it_is_the_evaluation_s_flip_test(networks) -> None:
    plain, flipped = networks
    crops = drawn_crops(plain.input_hw, 5)
    found = flipped(crops, heatmaps=True)
    expected = run(plain, crops, Protocol(flip=True))
    np.testing.assert_allclose(found["keypoints"], expected, atol=1e-4)
    assert found["heatmaps"].shape == plain(crops, heatmaps=True)["heatmaps"].shape
    assert np.abs(found["keypoints"] - plain(crops)["keypoints"]).max() > 0.1
    assert flipped(crops[:0])["keypoints"].shape == (0, 17, 3)
    assert "heatmaps" not in flipped(crops)


def test_a_mirrored_crop_gives_the_mirrored_pose(networks) -> None:
    """With the mean it does not matter which of the two one begins with."""
    plain, flipped = networks
    crops = drawn_crops(plain.input_hw, 8)
    crops[:, :, :3] = crops[:, :, -3:] = 0  # what the mirror image would lose
    here, there = (
        network(images)["keypoints"][:, order]
        for network, images, order in (
            (flipped, crops, list(range(17))),
            (flipped, mirrored(crops), list(plain.skeleton.mirror)),
        )
    )
    sure = here[..., 2] > 0.3
    assert sure.sum() > 20
    width = plain.input_hw[1]
    np.testing.assert_allclose(there[sure][:, 0], width - 4 - here[sure][:, 0], atol=0.05)
    np.testing.assert_allclose(there[sure][:, 1:], here[sure][:, 1:], atol=0.05)


def test_the_tracker_and_the_command_take_it(tmp_path, capsys) -> None:
    with Tracker(flip=True, threads=1) as tracker:
        assert "averaged with mirror images" in tracker.network.describe()
        assert len(tracker.image(np.zeros((90, 160, 3), np.uint8))) == 0
    clip = make_clip(tmp_path / "walk.mp4", 4)
    out = tmp_path / "o.mp4"
    with pytest.raises(SystemExit) as ended:
        main(["-s", str(clip), "-o", str(out), "--flip", "--threads", "1"])
    assert ended.value.code == 0
    assert "averaged with mirror images" in capsys.readouterr().err
    with av.open(str(out)) as made:
        assert sum(1 for _ in made.decode(video=0)) == 4
