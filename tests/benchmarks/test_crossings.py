from pathlib import Path

import numpy as np
import pytest

from benchmarks.crossings import (
    NOBODY,
    Clip,
    Noise,
    Scene,
    load_clips,
    make_scenes,
    observe,
)
from hrtrack.errors import DataError
from hrtrack.poses import Poses
from hrtrack.skeleton import ACTION13
from hrtrack.tracker.tracking.associate import Tracks


def clips(count: int = 6) -> list[Clip]:
    """People who stand and wave, each of another build."""
    rng = np.random.default_rng(0)
    made = []
    for _ in range(count):
        joints = rng.uniform(0, 1, (1, 13, 2)) * [40, 100] + rng.normal(0, 0.3, (60, 13, 2))
        boxes = np.tile([-5.0, -5.0, 45.0, 105.0], (60, 1)) + rng.normal(0, 0.3, (60, 4))
        made.append(Clip(boxes, joints, np.ones((60, 13), bool)))
    return made


def test_scenes_have_the_crossings_they_promise() -> None:
    scenes = make_scenes(clips(), 2, 5, seed=0)
    assert sum(len(scene.crossings()) for scene in scenes) >= 5
    for first, last, a, b in scenes[0].crossings():
        assert last - first >= 10
        assert (a, b) == (0, 1)
    again = make_scenes(clips(), 2, 5, seed=0)
    np.testing.assert_array_equal(scenes[0].boxes, again[0].boxes)


def test_noise_is_as_declared() -> None:
    scene = make_scenes(clips(), 2, 1, seed=0)[0]
    none = list(observe(scene, Noise(box=0, missed=0, false_boxes=0, keypoints=0), 0))
    for t, (poses, shown) in enumerate(none):
        assert sorted(shown) == [0, 1]
        assert poses.boxes == pytest.approx(scene.boxes[t][shown], abs=1e-3)
    missed = list(observe(scene, Noise(missed=0.25, false_boxes=0), 0))
    assert np.mean([len(poses) for poses, _ in missed]) == pytest.approx(1.5, abs=0.1)
    extra = list(observe(scene, Noise(missed=0, false_boxes=0.5), 0))
    assert np.mean([len(poses) for poses, _ in extra]) == pytest.approx(2.5, abs=0.1)
    background = np.mean([(shown == NOBODY).sum() for _, shown in extra])
    assert background == pytest.approx(0.25, abs=0.08)


def test_people_who_cross_keep_their_ids_under_noise() -> None:
    def follow(scene: Scene) -> list[Poses]:
        tracks = Tracks(ACTION13)
        return [tracks.update(poses) for poses, _ in observe(scene, Noise(keypoints=1), 1)]

    scene = make_scenes(clips(), 2, 1, seed=3)[0]
    owners: dict[int, list[int]] = {0: [], 1: []}
    for t, poses in enumerate(follow(scene)):
        apart = abs(scene.boxes[t, 0, 0] - scene.boxes[t, 1, 0]) > 60
        for person in (0, 1):
            gap = np.abs(poses.boxes - scene.boxes[t, person]).max(axis=1)
            if apart and len(gap) and gap.min() < 25:
                owners[person].append(int(poses.ids[gap.argmin()]))
    for worn in owners.values():
        usual = max(set(worn), key=worn.count)
        assert worn.count(usual) > 0.98 * len(worn)


@pytest.mark.shared
@pytest.mark.slow
def test_penn_action_labels_load(shared: Path) -> None:
    loaded = load_clips(shared / "data" / "penn_action" / "labels", train=False)
    assert len(loaded) > 400
    for clip in loaded[:20]:
        assert clip.boxes.shape[0] == clip.keypoints.shape[0] == clip.seen.shape[0] >= 30


def test_a_folder_without_labels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no usable Penn Action labels"):
        load_clips(tmp_path, train=True)
