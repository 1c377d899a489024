"""The detector as a file: what it holds, and what it answers."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from hrtrack.export.detector import detector_ranges, export_detector
from hrtrack.geometry import iou
from hrtrack.models.detector.network import PersonDetector, load_detector
from hrtrack.models.info import read_onnx_metadata
from hrtrack.models.runtimes import eight_bit
from hrtrack.tracker.inference.detectors.openvino import OpenVinoDetector
from hrtrack.tracker.inference.open import open_detector
from hrtrack.train.detector.batches import calibration_pictures
from hrtrack.train.detector.fit import train_detector
from hrtrack.train.detector.predict import as_function

from ..train.detector.test_fit import config, make_set

pytest.importorskip("onnx")


def test_checkpoint_onnx_and_network_agree(tmp_path: Path) -> None:
    torch.manual_seed(0)
    detector = PersonDetector().eval()
    for head in detector.heads:
        torch.nn.init.normal_(head.score.weight, std=0.5)
        torch.nn.init.constant_(head.score.bias, 0.0)
    path = tmp_path / "own.onnx"
    export_detector(detector, (96, 160), path, {"name": "own", "task": "detector"})
    # 8 bits and a scale for most of them, float16 for the rest.
    assert path.stat().st_size < 1.4 * sum(value.numel() for value in detector.parameters())
    read = load_detector(path)
    for name, value in detector.state_dict().items():
        step = float(value.abs().max()) / 127 if value.numel() > 100_000 else 1e-3
        torch.testing.assert_close(
            read.state_dict()[name], value, rtol=1e-3, atol=0.6 * step, msg=name
        )

    rng = np.random.default_rng(0)
    runner = open_detector(str(path), threads=1, min_score=0.01)
    for shape in ((120, 200, 3), (200, 120, 3)):
        photo = cv2.resize(rng.integers(0, 255, (9, 9, 3), np.uint8), (shape[1], shape[0]))
        hw = (96, 160) if shape[1] > shape[0] else (160, 96)
        boxes, scores = runner(photo)
        wanted, wanted_scores = as_function(detector, hw)(photo)
        assert len(boxes) > 3
        np.testing.assert_allclose(scores[:3], wanted_scores[:3], atol=0.02)
        np.testing.assert_allclose(boxes[0], wanted[0].clip(0, [*shape[1::-1]] * 2), atol=2)


@pytest.mark.slow
def test_a_trained_detector_computes_in_8_bits(tmp_path: Path) -> None:
    make_set(tmp_path / "set", 8)
    settings = config(tmp_path / "set", steps=30, lr=4e-3)
    detector = train_detector(settings, tmp_path / "out", quiet=True).eval()
    pictures = list(calibration_pictures(settings, tmp_path / "out", 3))
    assert [tuple(batch.shape) for batch in pictures] == [(8, 64, 96, 3)] * 3
    assert not torch.equal(pictures[0], pictures[1])
    ranges = detector_ranges(detector, pictures)
    convolutions = [m for m in detector.modules() if isinstance(m, torch.nn.Conv2d)]
    # Scores and sides of three levels stay in floats.
    assert len(ranges) == len(convolutions) - 6
    assert not [name for name in ranges if ".score." in name or ".box." in name]

    said = {"name": "tiny", "task": "detector"}
    export_detector(detector, (64, 96), tmp_path / "plain.onnx", said)
    export_detector(detector, (64, 96), tmp_path / "ranged.onnx", said, ranges)
    stored = eight_bit.from_metadata(read_onnx_metadata(tmp_path / "ranged.onnx"), "ranged")
    assert stored.keys() == ranges.keys()
    plain = open_detector(str(tmp_path / "plain.onnx"), 1, 0.01)
    ranged = open_detector(str(tmp_path / "ranged.onnx"), 1, 0.01)
    assert isinstance(ranged, OpenVinoDetector)
    assert plain.describe() == "plain on OpenVINO CPU"
    assert (
        ranged.describe() == f"ranged on OpenVINO CPU{', int8' if eight_bit.int8_is_fast() else ''}"
    )
    picture = cv2.cvtColor(cv2.imread(str(tmp_path / "set/0.png")), cv2.COLOR_BGR2RGB)
    for image in (picture, np.ascontiguousarray(np.rot90(picture))):
        boxes, scores = plain(image)
        found, marks = ranged(image)
        assert len(boxes)
        overlaps = iou(boxes[:1], found)[0]
        assert overlaps.max() > 0.8
        assert marks[overlaps.argmax()] == pytest.approx(scores[0], abs=0.1)
