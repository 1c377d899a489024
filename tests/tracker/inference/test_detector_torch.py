"""Our detector on torch against OpenVINO; the arithmetic of the GPU also runs on torch's CPU."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from hrtrack.geometry import iou
from hrtrack.models.detector.letterbox import FILL, fitted_hw
from hrtrack.models.zoo import bundled_path
from hrtrack.tracker.inference.detectors.openvino import OpenVinoDetector
from hrtrack.tracker.inference.detectors.torch import Letterbox, TorchDetector, is_ours
from hrtrack.tracker.inference.open import open_detector
from hrtrack.tracker.inference.upload import Upload
from hrtrack.tracker.video.frame import Frame

from ...clips import portrait

pytest.importorskip("onnx")
CPU = torch.device("cpu")
PERSON_FAST = bundled_path("person_fast")
assert PERSON_FAST is not None


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    """Grace Hopper beside her mirror image."""
    image = portrait()
    return np.ascontiguousarray(np.concatenate([image, image[:, ::-1]], axis=1))


@pytest.mark.parametrize("image_hw", [(360, 640), (641, 479), (100, 90), (1, 1)])
def test_letterbox_scales_as_opencv_does(image_hw: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (*image_hw, 3), dtype=np.uint8)
    letterbox = Letterbox(image_hw, (224, 384), CPU)
    found = letterbox(torch.from_numpy(noise)).numpy()
    height, width = fitted_hw(image_hw, (224, 384))
    expected = cv2.resize(noise, (width, height))
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() <= 1
    np.testing.assert_allclose(letterbox.scale[:2], (width / image_hw[1], height / image_hw[0]))


def same_people(there: TorchDetector, image: np.ndarray) -> None:
    """Boxes of the likely people on both, beside OpenVINO's float32 or bfloat16."""
    boxes, scores = open_detector("person_fast", threads=1, eight_bits=False)(image)
    found, marks = there(image)
    likely = scores > 0.3
    assert likely.any()
    overlaps = iou(boxes[likely], found)
    assert (overlaps.max(axis=1) > 0.9).all()
    np.testing.assert_allclose(marks[overlaps.argmax(axis=1)], scores[likely], atol=0.05)
    assert found.dtype == marks.dtype == np.float32
    assert (np.diff(marks) <= 0).all()


def test_the_same_boxes_as_openvino(photo: np.ndarray) -> None:
    detector = TorchDetector(PERSON_FAST, "person_fast", CPU, 0.1)
    same_people(detector, photo)
    # Upright, then another size: buffers and bars are made anew.
    same_people(detector, np.ascontiguousarray(photo[:, : photo.shape[1] // 2]))
    same_people(detector, photo[::2, ::2])
    same_people(detector, photo)
    assert "person_fast on PyTorch" in detector.describe()
    detector.close()


class Watched(TorchDetector):
    """A detector that notes how many frames each batch had, and can be held up."""

    def __init__(self) -> None:
        super().__init__(PERSON_FAST, "person_fast", CPU, 0.1)
        self.counts: list[int] = []
        self.begun, self.go_on = threading.Event(), threading.Event()

    def _run(self, images: list[torch.Tensor]) -> list[tuple[np.ndarray, np.ndarray]]:
        self.counts.append(len(images))
        self.begun.set()
        assert self.go_on.wait(60)
        return super()._run(images)


def test_frames_that_wait_are_one_batch_with_the_same_boxes(photo: np.ndarray) -> None:
    detector = Watched()
    upright = np.ascontiguousarray(photo[:, : photo.shape[1] // 2])
    # Two share the input's size although they differ in theirs, one has bars.
    images = [photo, photo[::2, ::2], photo[:, ::-1], photo[:560], upright, photo[:40, :70]]
    images = [np.ascontiguousarray(image) for image in images]
    detector.go_on.set()
    alone = [detector(image) for image in images]
    assert sum(len(boxes) > 0 for boxes, _ in alone) >= 5
    detector.counts.clear()
    detector.go_on.clear()
    detector.begun.clear()
    with ThreadPoolExecutor(len(images) + 1) as pool:
        first = pool.submit(detector, images[0])
        assert detector.begun.wait(60)
        later = [pool.submit(detector, image) for image in images]
        while len(detector._gathering._waiting) < len(images):
            pass
        detector.go_on.set()
        results = [first.result(60), *(one.result(60) for one in later)]
    assert detector.counts == [1, len(images)]
    for found, expected in zip(results, [alone[0], *alone], strict=True):
        # Larger batches are summed in another order.
        np.testing.assert_allclose(found[0], expected[0], atol=0.01)
        np.testing.assert_allclose(found[1], expected[1], atol=1e-4)
    detector.close()


@pytest.mark.gpu
def test_batches_on_the_gpu_give_the_same_boxes(photo: np.ndarray) -> None:
    detector = open_detector("person_fast", device=torch.device("cuda"))
    assert isinstance(detector, TorchDetector)
    images = [np.ascontiguousarray(photo[:, : photo.shape[1] - 40 * i]) for i in range(5)]
    alone = [detector(image) for image in images]
    there = [detector.upload(image) for image in images]
    for image, (rows, scale), (boxes, scores) in zip(
        images, detector._run(there), alone, strict=True
    ):
        likely = scores > 0.3
        found = rows[rows[:, 4] > 0.3, :4] / scale
        assert (iou(boxes[likely], found).max(axis=1) > 0.95).all(), image.shape


@pytest.mark.gpu
def test_the_same_boxes_on_the_gpu(photo: np.ndarray) -> None:
    detector = open_detector("person_fast", device=torch.device("cuda"))
    assert isinstance(detector, TorchDetector)
    for image in (photo, np.ascontiguousarray(photo[:, : photo.shape[1] // 2]), photo):
        same_people(detector, image)
    assert "fp16" in detector.describe()


def test_a_picture_without_people_gives_no_boxes() -> None:
    detector = TorchDetector(PERSON_FAST, "person_fast", CPU, 0.1)
    boxes, scores = detector(np.full((90, 160, 3), FILL, np.uint8))
    assert boxes.shape == (0, 4)
    assert scores.shape == (0,)


def test_foreign_detectors_stay_on_openvino(tmp_path: Path) -> None:
    from .test_detectors import picture, save, yolox_rows

    path = save(tmp_path / "y.onnx", {"images": picture()}, {"output": yolox_rows(6)})
    assert is_ours(PERSON_FAST)
    assert not is_ours(Path(path))
    # The device is only looked at, so a machine without one will do.
    detector = open_detector(path, threads=1, device=torch.device("cuda"))
    assert isinstance(detector, OpenVinoDetector)
    assert detector.describe() == (
        "y on OpenVINO CPU (only hrtrack's own detector runs on the GPU)"
    )
    assert open_detector("person_fast", threads=1).describe().startswith("person_fast on OpenVINO")


def test_a_kept_frame_is_taken_over_once() -> None:
    upload, image = Upload(CPU), np.zeros((4, 6, 3), np.uint8)
    there = upload.keep(image)
    image += 1
    assert upload.take(Frame(0, 0.0, image)) is there
    # Nobody kept it since: the array is read again.
    assert (upload.take(Frame(0, 0.0, image)) == 1).all()
    upload.keep(image)
    assert upload.take(Frame(0, 0.0, image.copy())) is not there
    upload.keep(image)
    image += 1
    upload.forget()
    assert (upload.take(Frame(0, 0.0, image)) == 2).all()


@pytest.mark.gpu
def test_uploads_through_the_page_locked_buffer() -> None:
    upload = Upload(torch.device("cuda"))
    frames = [np.full((50, 70, 3), value, np.uint8) for value in range(20)]
    there = [upload(frame) for frame in frames]
    assert [int(frame.float().mean()) for frame in there] == list(range(20))
