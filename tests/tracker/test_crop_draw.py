"""Crops show what stands in the box; drawings land where the people are."""

from __future__ import annotations

import numpy as np
import pytest

from hrtrack import geometry
from hrtrack.errors import UsageError
from hrtrack.poses import Poses
from hrtrack.skeleton import COCO17
from hrtrack.tracker.inference.crop import Cropper
from hrtrack.tracker.inference.estimate import Estimator, person_confidence
from hrtrack.tracker.outputs.pictures.draw import DrawOptions, draw, draw_heatmaps, draw_overlay
from hrtrack.tracker.stopwatch import Stopwatch
from hrtrack.tracker.video.frame import Frame


def ramp(height: int = 200, width: int = 300) -> np.ndarray:
    """An image whose red is x and whose green is y, so that a crop tells where it came from."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = np.minimum(np.arange(width), 255)[None]
    image[..., 1] = np.minimum(np.arange(height), 255)[:, None]
    return image


BOXES = np.array(
    [[50, 40, 110, 120], [150.3, 60.6, 170.9, 99.2], [-25.4, 30, 40, 150], [200, 90, 330, 260.7],
     [5, 5, 295, 195], [120, 100, 124, 109]], np.float32,
)  # fmt: skip


def test_crops_come_from_their_boxes_and_map_back() -> None:
    image = ramp(250, 250)
    crops, to_image = Cropper((256, 192))(image, BOXES)
    assert crops.shape == (len(BOXES), 256, 192, 3)
    y, x = np.mgrid[:256, :192]
    where = geometry.transform(np.stack([x, y], axis=-1).reshape(1, -1, 2), to_image)
    where = where.reshape(len(BOXES), 256, 192, 2)
    inside = ((where >= 0) & (where <= 249)).all(axis=-1)
    assert inside.any(axis=(1, 2)).all()
    # Whole values, and no blending over the window's own edge.
    gap = np.abs(crops[..., :2] - where)[inside]
    assert gap.max() < 1.01
    assert gap.mean() < 0.3


def test_a_crop_does_not_depend_on_who_else_is_there() -> None:
    """Many are cut on two threads."""
    image = np.random.default_rng(0).integers(0, 256, (250, 250, 3), np.uint8)
    together, maps = Cropper((256, 192))(image, BOXES)
    for i in range(len(BOXES)):
        alone, its_map = Cropper((256, 192))(image, BOXES[i : i + 1])
        np.testing.assert_array_equal(together[i], alone[0])
        np.testing.assert_array_equal(maps[i], its_map[0])


def test_windows_are_those_of_the_official_code_to_half_a_pixel() -> None:
    windows = geometry.crop_boxes(BOXES, 192 / 256)
    _, to_image = Cropper((256, 192))(ramp(250, 250), BOXES)
    exact = geometry.invert(geometry.crop_affines(windows, (256, 192)))
    points = np.array([[[0, 0], [95, 127], [191, 255]]], np.float64)
    gap = np.abs(geometry.transform(points, to_image) - geometry.transform(points, exact))
    # Where the image's edge cuts a window, half a pixel of the crop comes to half of the image.
    step = np.array([exact[:, 0, 0], exact[:, 1, 1]]).T[:, None]
    assert (gap <= 0.5 + 0.5 * step + 1e-5).all()
    within = [0, 1, 5]
    assert gap[within].max() <= 0.5 + 1e-5


def test_a_window_beyond_the_image_is_black_and_still_has_its_map() -> None:
    image = np.full((100, 100, 3), 255, np.uint8)
    boxes = np.array([[300, 20, 340, 80], [20, -200, 60, -100]], np.float32)
    cut = Cropper((64, 48))
    cut(image, np.array([[10, 10, 90, 90]] * 2, np.float32))
    crops, to_image = cut(image, boxes)
    assert not crops.any()
    centre = geometry.transform(np.array([[[24.0, 32.0]]]), to_image)[:, 0]
    np.testing.assert_allclose(centre, (boxes[:, :2] + boxes[:, 2:]) / 2, atol=2)


def test_a_crop_over_the_edge_is_black_outside() -> None:
    crops, _ = Cropper((64, 48))(
        np.full((100, 100, 3), 255, np.uint8), np.array([[-40, 0, 20, 80]])
    )
    assert crops[0, 32, 2].max() == 0
    assert crops[0, 32, 40].min() == 255


class CentreNetwork:
    """A network that finds every joint at the centre of the crop."""

    input_hw = (256, 192)

    def __call__(self, crops: np.ndarray, *, heatmaps: bool = False) -> dict[str, np.ndarray]:
        found = np.tile(np.array([96, 128, 0.5], np.float32), (len(crops), 17, 1))
        return {"keypoints": found, "heatmaps": np.zeros((len(crops), 17, 64, 48), np.float32)}

    def close(self) -> None: ...


def test_estimates_are_in_image_pixels() -> None:
    estimate = Estimator(CentreNetwork(), 17, Stopwatch(), keep_heatmaps=True)
    frame = Frame(7, 0.25, ramp())
    boxes = np.array([[50, 40, 110, 120], [150, 60, 210, 140]], np.float32)
    poses = estimate(frame, boxes, np.array([0.8, 0.4], np.float32))
    np.testing.assert_allclose(poses.keypoints[:, 3], [[80, 80], [180, 100]], atol=0.5)
    np.testing.assert_allclose(poses.person_scores, np.sqrt([0.4, 0.2]), rtol=1e-6)
    assert (poses.frame, poses.time) == (7, 0.25)
    assert estimate.heatmaps is not None
    assert len(estimate(frame, boxes[:0], np.zeros(0, np.float32))) == 0
    assert estimate.heatmaps is None


def test_person_confidence_leaves_unseen_joints_out() -> None:
    scores = np.array([[0.9, 0.5, 0.1], [0.1, 0.0, 0.0]], np.float32)
    np.testing.assert_allclose(person_confidence(scores), [0.7, 0.0])


def one_person() -> Poses:
    keypoints = np.tile(np.array([150, 100], np.float32), (1, 17, 1))
    keypoints[0, 5], keypoints[0, 7] = (60, 50), (60, 150)
    scores = np.zeros((1, 17), np.float32)
    scores[0, [5, 7]] = 0.9
    box = np.array([[40, 30, 120, 170]], np.float32)
    return Poses(0, 0.0, box, np.ones(1, np.float32), keypoints, scores, np.array([4]))


@pytest.mark.parametrize("layer", ["skeleton", "boxes", "ids"])
def test_every_layer_leaves_its_mark(layer: str) -> None:
    blank = np.zeros((200, 300, 3), np.uint8)
    drawn = draw(blank.copy(), one_person(), COCO17, DrawOptions.parse(layer, 0.3))
    assert (drawn != blank).any()
    # Anti-aliasing shades the line, so its colour is near the limb's, not equal to it.
    expected = COCO17.limb_colour((5, 7)) if layer == "skeleton" else (0, 0, 0)
    np.testing.assert_allclose(drawn[100, 60].astype(int), expected, atol=30)


def test_low_scores_and_wild_coordinates_draw_nothing_odd() -> None:
    poses = one_person()
    poses.keypoints[0, 9] = 1e9
    poses.scores[0, 9] = 0.9
    drawn = draw(np.zeros((200, 300, 3), np.uint8), poses, COCO17, DrawOptions({"skeleton"}, 0.95))
    assert not drawn.any()
    draw(np.zeros((200, 300, 3), np.uint8), poses, COCO17, DrawOptions({"skeleton"}, 0.3))


def test_a_large_picture_is_drawn_on_to_its_edge() -> None:
    poses = one_person()
    poses.keypoints[0, 5], poses.keypoints[0, 7] = (8900, 50), (40, 8900)
    poses.boxes[0] = 30, 40, 8950, 8960
    image = np.zeros((9000, 9000, 3), np.uint8)
    draw(image, poses, COCO17, DrawOptions({"skeleton"}, 0.3))
    for x, y in ((8900, 50), (40, 8900)):
        assert (image[y, x] == 255).all()
    assert image[4475, 4470].any()


def test_heatmaps_and_overlay() -> None:
    image = np.zeros((200, 300, 3), np.uint8)
    maps = np.zeros((1, 17, 64, 48), np.float32)
    maps[0, 0, 32, 24] = 1
    boxes = np.array([[50, 40, 110, 120]], np.float32)
    _, to_image = Cropper((256, 192))(image, boxes)
    draw_heatmaps(image, maps, to_image, (256, 192))
    rows, columns = np.nonzero(image.sum(axis=2))
    assert rows.mean() == pytest.approx(80, abs=2)
    assert columns.mean() == pytest.approx(80, abs=2)
    before = image.copy()
    draw_overlay(image, ["30.0 FPS"])
    assert (image != before).any()


def test_unknown_layer() -> None:
    with pytest.raises(UsageError, match="not 'wings'"):
        DrawOptions.parse("skeleton,wings", 0.3)
