"""Crops show what stands in the box; drawings land where the people are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from hrtrack import geometry
from hrtrack.errors import UsageError
from hrtrack.poses import Poses
from hrtrack.skeleton import COCO17, Skeleton, by_name
from hrtrack.tracker.inference.crop import Cropper
from hrtrack.tracker.inference.estimate import Estimator, person_confidence
from hrtrack.tracker.outputs.pictures.draw import DrawOptions, Trails, draw, draw_heatmaps
from hrtrack.tracker.outputs.pictures.labels import Labels, draw_overlay
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


@pytest.mark.parametrize("layer", ["skeleton", "boxes", "ids", "scores"])
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


def grey(height: int = 240, width: int = 320) -> NDArray[np.uint8]:
    return np.full((height, width, 3), 128, np.uint8)


def through_h264(image_HW3: NDArray[np.uint8], folder: Path) -> NDArray[np.uint8]:
    """The picture as a player shows it that was given it as H.264 with half the colour."""
    path = folder / "one.mp4"
    with av.open(path, "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.height, stream.width = image_HW3.shape[:2]
        stream.pix_fmt = "yuv420p"
        for _ in range(2):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(image_HW3, format="rgb24")))
        out.mux(stream.encode())
    with av.open(path) as back:
        return next(back.decode(video=0)).to_ndarray(format="rgb24")


@pytest.mark.parametrize("background", [0, 128, 255])
def test_left_and_right_stay_apart_in_a_small_video(tmp_path: Path, background: int) -> None:
    poses = one_person()
    poses.scores[0] = 0
    for joint, place in ((5, (60, 50)), (7, (61, 150)), (6, (66, 50)), (8, (65, 150))):
        poses.keypoints[0, joint], poses.scores[0, joint] = place, 0.9
    image = np.full((240, 320, 3), background, np.uint8)
    draw(image, poses, COCO17, DrawOptions({"skeleton"}, 0.3))
    shown = through_h264(image, tmp_path).astype(int)
    for row in (60, 75, 90, 120):  # blue to the left, orange to the right, five pixels apart
        assert (shown[row, 60, 2] - shown[row, 60, 0]) > 40, row
        assert (shown[row, 65, 0] - shown[row, 65, 2]) > 40, row


@pytest.mark.parametrize("height", [240, 720, 2160])
@pytest.mark.parametrize("side", [20, 100, 200])
def test_lines_are_two_pixels_or_more_with_an_outline(height: int, side: int) -> None:
    poses = one_person()
    poses.boxes[0] = 40, 30, 40 + side / 2, 30 + side
    image = np.full((height, height * 4 // 3, 3), 255, np.uint8)
    draw(image, poses, COCO17, DrawOptions({"skeleton"}, 0.3))
    row = image[100, 40:80].astype(int)
    coloured = (np.abs(row - COCO17.limb_colour((5, 7))) < 60).all(axis=1)
    dark = (row < 120).all(axis=1)
    assert coloured.sum() >= 2
    assert dark[: coloured.argmax()].any()
    assert dark[coloured.nonzero()[0][-1] :].any()


def test_a_joint_without_a_limb_is_drawn_only_if_it_is_certain() -> None:
    poses = one_person()
    poses.scores[0] = 0
    poses.scores[0, 9] = 0.5
    options = DrawOptions({"skeleton"}, 0.3)
    assert (draw(grey(), poses, COCO17, options) == 128).all()
    poses.scores[0, 9] = 0.8
    assert (draw(grey(), poses, COCO17, options) == 255).any()
    poses.scores[0, [7, 9]] = 0.5  # which is a limb
    assert (draw(grey(), poses, COCO17, options) == 255).all(axis=2).any()


def test_a_small_face_is_not_hidden() -> None:
    poses = one_person()
    poses.scores[0] = 0
    poses.scores[0, :5] = 0.9
    face = ((60, 60), (62, 58), (58, 58), (64, 59), (56, 59))
    poses.keypoints[0, :5] = face
    drawn = draw(grey(), poses, COCO17, DrawOptions({"skeleton"}, 0.3))
    changed = (drawn != 128).any(axis=2)
    rows, columns = np.nonzero(changed)
    assert changed.sum() < 50
    assert rows.max() <= 62
    assert columns.max() <= 67


def test_the_details_of_a_small_face_are_no_white_spot() -> None:
    """68 points on a face of 12 pixels are left out; on one of 120 pixels they are drawn."""
    whole = by_name("wholebody133")
    chin = [whole.index(f"face_{i}") for i in range(17)]
    turn = np.linspace(0, np.pi, 17)
    white = []
    for radius in (6, 60):
        keypoints = np.zeros((1, 133, 2), np.float32)
        scores = np.zeros((1, 133), np.float32)
        keypoints[0, chin] = 120 + radius * np.stack([np.cos(turn), np.sin(turn)], axis=1)
        keypoints[0, 0], scores[0, 0], scores[0, chin] = 120, 0.9, 0.9
        box = np.array([[100, 20, 140, 220]], np.float32)
        poses = Poses(0, 0.0, box, np.ones(1, np.float32), keypoints, scores, np.array([1]))
        drawn = draw(grey(), poses, whole, DrawOptions({"skeleton"}, 0.3))
        white.append(int((drawn == 255).all(axis=2).sum()))
    nose = 5  # pixels
    assert white[0] == nose
    assert white[1] >= 17 * 5


def test_a_skeleton_without_limbs_and_a_frame_without_people() -> None:
    points = Skeleton("points", ("a", "b"), (), (), (0.1, 0.1))
    options = DrawOptions({"skeleton", "boxes", "ids"}, 0.3)
    assert (draw(grey(), Poses.empty(0, 0.0, 2), points, options) == 128).all()
    assert (draw(grey(), Poses.empty(0, 0.0, 17), COCO17, options) == 128).all()
    keypoints = np.array([[[50, 60], [100, 60]]], np.float32)
    scores = np.array([[0.9, 0.5]], np.float32)
    box = np.array([[40, 50, 110, 70]], np.float32)
    poses = Poses(0, 0.0, box, np.ones(1, np.float32), keypoints, scores, np.array([1]))
    drawn = draw(grey(), poses, points, DrawOptions({"skeleton"}, 0.3))
    assert (drawn[60, 50] == 255).all()
    assert (drawn[:, 90:] == 128).all()


def test_labels_do_not_cover_each_other() -> None:
    image = grey()
    labels = Labels(image)
    fields = []
    for number in range(12):
        before = image.copy()
        if labels.tag(f"{number} 0.90", 100 + number % 3, 120, (9 + number, 200, 50)):
            fields.append((image != before).any(axis=2))
    assert len(fields) >= 8
    assert sum(field.astype(int) for field in fields).max() == 1  # type: ignore[union-attr]
    assert not labels.note("left wrist", 100, 115)
    assert labels.note("left wrist", 10, 20)


def test_names_are_written_beside_joints() -> None:
    poses = one_person()  # a shoulder and an elbow, 100 pixels apart
    plain = draw(grey(), poses, COCO17, DrawOptions({"skeleton"}, 0.3))
    named = draw(grey(), poses, COCO17, DrawOptions({"skeleton", "names"}, 0.3))
    rows, columns = np.nonzero((plain != named).any(axis=2))
    assert columns.min() >= 62
    assert ((rows > 40) & (rows < 60)).sum() > 50
    assert ((rows > 140) & (rows < 160)).sum() > 50
    assert not ((rows > 70) & (rows < 130)).any()


def test_blurred_faces_cannot_be_told() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (240, 320, 3)).astype(np.uint8)
    poses = one_person()
    poses.scores[0] = 0
    poses.keypoints[0, :5], poses.scores[0, :5] = (
        ((80, 60), (84, 56), (76, 56), (88, 58), (72, 58)),
        0.4,
    )
    drawn = draw(image.copy(), poses, COCO17, DrawOptions.parse("blur-faces", 0.3))
    assert drawn[52:64, 72:88].std() < 0.4 * image[52:64, 72:88].std()
    np.testing.assert_array_equal(drawn[100:], image[100:])
    poses.scores[0] = 0  # no head is seen: the upper part of the box it is
    drawn = draw(image.copy(), poses, COCO17, DrawOptions.parse("blur-faces", 0.3))
    assert drawn[32:56, 42:118].std() < 0.4 * image[32:56, 42:118].std()
    np.testing.assert_array_equal(drawn[60:], image[60:])


def test_trails_show_where_people_came_from() -> None:
    trails = Trails(seconds=1.0)
    for step in range(21):
        poses = one_person()
        poses.boxes[:, [0, 2]] += 5 * step
        behind = trails.update(replace(poses, time=step * 0.1))
    ((number, places),) = behind
    assert number == 4
    assert len(places) == 11
    np.testing.assert_allclose(places[-1], (180, 100))
    drawn = draw(grey(), poses, COCO17, DrawOptions({"trails"}, 0.3), behind)
    columns = np.nonzero((drawn != 128).any(axis=(0, 2)))[0]
    assert (columns.min(), columns.max()) == pytest.approx((130, 180), abs=2)
    assert trails.update(replace(one_person(), time=0.0))[0][1].shape == (1, 2)  # begun again
    assert not trails.update(Poses.empty(0, 9.0, 17))


@pytest.mark.parametrize("name", ["wholebody133", "halpe26", "onehand21", "ap10k17"])
def test_every_skeleton_is_drawn(name: str) -> None:
    skeleton = by_name(name)
    count = len(skeleton)
    rng = np.random.default_rng(0)
    keypoints = rng.uniform(20, 200, (3, count, 2)).astype(np.float32)
    boxes = np.tile(np.array([20, 20, 200, 200], np.float32), (3, 1))
    ones = np.ones((3, count), np.float32)
    poses = Poses(0, 0.0, boxes, ones[:, 0], keypoints, ones, np.arange(3))
    layers = "skeleton,boxes,ids,scores,trails,names,blur-faces"
    drawn = draw(grey(), poses, skeleton, DrawOptions.parse(layers, 0.3))
    for colour in {skeleton.limb_colour(limb) for limb in skeleton.limbs}:
        assert (np.abs(drawn.astype(int) - colour) < 30).all(axis=2).sum() > 50


def test_help_text_has_a_background() -> None:
    image = np.full((240, 320, 3), 255, np.uint8)
    draw_overlay(image, ["30.0 FPS", "h  this help"])
    assert image[4, 4].max() < 100
    assert (image == 255).all(axis=2)[:40, :150].any()  # letters
    assert (image[100:] == 255).all()


def test_unknown_layer() -> None:
    with pytest.raises(UsageError, match="not 'wings'"):
        DrawOptions.parse("skeleton,wings", 0.3)
