"""Plug-in detectors: small graphs of every format, and the public fixtures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hrtrack.errors import BackendError, ModelError
from hrtrack.models.detector.letterbox import fitted_hw, input_for, nms, vote
from hrtrack.tracker.inference.detectors.formats import EXPECTED, Port, recognise
from hrtrack.tracker.inference.detectors.openvino import OpenVinoDetector
from hrtrack.tracker.inference.open import open_detector

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

HW = (64, 96)
# 192x64 pixels are scaled by a half into a 64x96 letterbox.
WIDE = np.zeros((64, 192, 3), np.uint8)


def save(
    path: Path,
    inputs: dict[str, tuple[list[int], int]],
    outputs: dict[str, np.ndarray],
    first: str = "ReduceMean",
) -> str:
    """A graph whose outputs are constants plus 0 x the mean of the picture."""
    image = next(iter(inputs))
    nodes, constants = [], [numpy_helper.from_array(np.float32(0), "zero")]
    source = image
    if first == "Slice":
        for name, value in (("from", 0), ("to", 2), ("axis", 2)):
            constants.append(numpy_helper.from_array(np.array([value]), name))
        nodes.append(helper.make_node("Slice", [image, "from", "to", "axis"], ["cut"]))
        source = "cut"
    nodes += [
        helper.make_node("Cast", [source], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
    ]
    for name, value in outputs.items():
        kind = helper.np_dtype_to_tensor_dtype(value.dtype)
        constants.append(numpy_helper.from_array(value, f"{name}_value"))
        nodes.append(helper.make_node("Cast", ["nothing"], [f"{name}_zero"], to=kind))
        nodes.append(helper.make_node("Add", [f"{name}_value", f"{name}_zero"], [name]))
    graph = helper.make_graph(
        nodes,
        "detector",
        [helper.make_tensor_value_info(n, kind, s) for n, (s, kind) in inputs.items()],
        [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
            for n, v in outputs.items()
        ],
        constants,
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return str(path)


def picture(dtype: int = TensorProto.FLOAT) -> tuple[list[int], int]:
    return [1, 3, *HW], dtype


def yolox_rows(columns: int) -> np.ndarray:
    """Two near-equal boxes around (40, 24) in the 8-stride grid, one other class, noise."""
    raw = np.zeros((1, 12 * 8 + 6 * 4 + 3 * 2, columns), np.float32)
    for cell, score in ((3 * 12 + 5, 0.9), (3 * 12 + 4, 0.8)):
        raw[0, cell, :2] = (0.0, 0.0) if score == 0.9 else (0.9, 0.0)
        raw[0, cell, 2:4] = np.log((16 / 8, 32 / 8))
        raw[0, cell, 4:6] = (score, 1.0)
    if columns == 85:
        raw[0, 0, 4], raw[0, 0, 6] = 0.9, 1.0
    return raw


@pytest.mark.parametrize("columns", [6, 85])
def test_yolox(tmp_path: Path, columns: int) -> None:
    path = save(tmp_path / "y.onnx", {"images": picture()}, {"output": yolox_rows(columns)})
    detector = open_detector(path, threads=1)
    boxes, scores = detector(WIDE)
    assert isinstance(detector, OpenVinoDetector)
    assert detector.kind == "yolox"
    np.testing.assert_allclose(boxes, [[64, 16, 96, 64]], atol=0.5)
    np.testing.assert_allclose(scores, [0.9], atol=5e-3)
    detector.close()


def test_deim_keeps_people_only(tmp_path: Path) -> None:
    path = save(
        tmp_path / "d.onnx",
        {"images": ([-1, 3, *HW], TensorProto.FLOAT), "orig_target_sizes": ([-1, 2], 7)},
        {
            "labels": np.array([[0, 16, 0, 0]], np.int64),
            "boxes": np.array([[[1, 2, 11, 22], [0, 0, 9, 9], [5, 5, 400, 50], [0, 0, 5, 5]]],
                              np.float32),
            "scores": np.array([[0.5, 0.9, 0.7, 0.05]], np.float32),
        },
    )  # fmt: skip
    boxes, scores = open_detector(path, threads=1)(WIDE)
    np.testing.assert_allclose(boxes, [[5, 5, 192, 50], [1, 2, 11, 22]], rtol=0.01)
    np.testing.assert_allclose(scores, [0.7, 0.5], atol=5e-3)


@pytest.mark.parametrize(("first", "kind"), [("ReduceMean", "rtmdet"), ("Slice", "yolox-mmdeploy")])
def test_mmdeploy(tmp_path: Path, first: str, kind: str) -> None:
    path = save(
        tmp_path / "r.onnx",
        {"input": picture()},
        {
            "dets": np.array([[[8, 8, 16, 24, 0.6], [0, 0, 5, 5, 0.8]]], np.float32),
            "labels": np.array([[0, 2]], np.int64),
        },
        first,
    )
    detector = open_detector(path, threads=1)
    boxes, scores = detector(WIDE)
    assert isinstance(detector, OpenVinoDetector)
    assert detector.kind == kind
    np.testing.assert_allclose(boxes, [[16, 16, 32, 48]], rtol=0.01)
    np.testing.assert_allclose(scores, [0.6], atol=5e-3)


def strides(classes: int, logits: bool, boxes_first: bool) -> dict[str, np.ndarray]:
    """Six maps: one person in a cell of stride 16, the same again beside it, and another class."""
    scores, distances = {}, {}
    for stride in (8, 16, 32):
        sides = (HW[0] // stride, HW[1] // stride)
        likely = np.full((1, classes, *sides), 0.001, np.float32)
        far = np.full((1, 4, *sides), 3.0, np.float32)
        if stride == 16:
            likely[0, 0, 2, 3], likely[0, 0, 2, 2] = 0.9, 0.6
            far[0, :, 2, 3] = 8, 16, 8, 16
            far[0, :, 2, 2] = -8, 16, 24, 16
            likely[0, classes - 1, 0, 0] = 0.001 if classes == 1 else 0.95
        scores[f"cls_{stride}"] = np.log(likely / (1 - likely)) if logits else likely
        distances[f"bbox_{stride}"] = far
    return {**distances, **scores} if boxes_first else {**scores, **distances}


@pytest.mark.parametrize(
    ("classes", "logits", "boxes_first"),
    [(80, True, False), (1, True, True), (1, False, False), (3, False, True)],
)
def test_rtmdet_per_stride(tmp_path: Path, classes: int, logits: bool, boxes_first: bool) -> None:
    path = save(tmp_path / "s.onnx", {"input": picture()}, strides(classes, logits, boxes_first))
    detector = open_detector(path, threads=1)
    assert isinstance(detector, OpenVinoDetector)
    assert detector.kind == "rtmdet-strides"
    boxes, scores = detector(WIDE)
    # The point (48, 32) of the input, that is (96, 64) of the picture, which ends there.
    np.testing.assert_allclose(boxes, [[80, 32, 112, 64]], atol=0.5)
    np.testing.assert_allclose(scores, [0.9], atol=5e-3)


def test_other_models_are_refused_in_one_line(tmp_path: Path) -> None:
    path = save(
        tmp_path / "pose.onnx",
        {"image": picture()},
        {"heatmap": np.zeros((1, 17, 16, 24), np.float32)},
    )
    with pytest.raises(ModelError) as caught:
        open_detector(path)
    text = str(caught.value)
    assert "image 1x3x64x96 f32 -> heatmap 1x17x16x24 f32" in text
    assert EXPECTED in text
    assert "\n" not in text


def test_what_openvino_cannot_compile_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("Exception from src/core.cpp:1:\n\nno such kernel\n\n")

    detector = open_detector("person_fast")
    monkeypatch.setattr(detector._compiled, "network", refuse)
    with pytest.raises(BackendError, match=r"cannot compile .*person_fast.onnx: no such kernel$"):
        detector(np.zeros((64, 64, 3), np.uint8))
    detector.close()


def test_files_that_are_no_models(tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not a model at all")
    with pytest.raises(ModelError, match="is not an ONNX file") as caught:
        open_detector(str(broken))
    assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match="no model file"):
        open_detector(str(tmp_path / "absent.onnx"))


def ports(**shapes: tuple[int, ...]) -> list[Port]:
    return [Port(frozenset({name}), shape, "f32") for name, shape in shapes.items()]


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        # YOLOv5 has three boxes a cell, YOLOv10 gives a few hundred that are decoded.
        ({"images": (1, 3, 640, 640)}, {"output": (1, 25200, 85)}),
        ({"images": (1, 3, 640, 640)}, {"output": (1, 300, 6)}),
        ({"input": (1, 3, 64, 96)}, {"dets": (1, 8, 4), "labels": (1, 8)}),
        # NanoDet's distances are distributions; two strides are not three.
        (
            {"input": (1, 3, 64, 96)},
            {f"cls_{s}": (1, 80, 64 // s, 96 // s) for s in (8, 16, 32)}
            | {f"dis_{s}": (1, 32, 64 // s, 96 // s) for s in (8, 16, 32)},
        ),
        (
            {"input": (1, 3, 64, 96)},
            {f"cls_{s}": (1, 80, 64 // s, 96 // s) for s in (8, 16)}
            | {f"box_{s}": (1, 4, 64 // s, 96 // s) for s in (8, 16)},
        ),
        (
            {"images": (1, 3, 64, 96), "size": (1, 3)},
            {"labels": (1, 9), "boxes": (1, 9, 4), "scores": (1, 9)},
        ),
    ],
)
def test_what_only_looks_alike_is_refused(
    inputs: dict[str, tuple[int, ...]], outputs: dict[str, tuple[int, ...]]
) -> None:
    with pytest.raises(ModelError, match="is not a person detector"):
        recognise(ports(**inputs), ports(**outputs), False, "x.onnx")


@pytest.mark.parametrize("sides", [HW, (-1, -1)])
def test_anothers_graph_of_our_kind(tmp_path: Path, sides: tuple[int, int]) -> None:
    """Its cell centres cannot be replaced, so that it keeps its size."""
    path = save(
        tmp_path / "own.onnx",
        {"images": ([1, *sides, 3], TensorProto.UINT8)},
        {
            "boxes": np.array([[[8, 8, 24, 30], [0, 0, 5, 5]]], np.float32),
            "scores": np.array([[0.8, 0.01]], np.float32),
        },
    )
    detector = open_detector(path, threads=1)
    assert isinstance(detector, OpenVinoDetector)
    assert detector.kind == "hrtrack"
    assert detector.input_hw == (HW if sides == HW else (640, 640))
    scale = 0.5 if sides == HW else 640 / 192
    boxes, scores = detector(WIDE)
    np.testing.assert_allclose(boxes, np.array([[8, 8, 24, 30]]) / scale, atol=0.5)
    np.testing.assert_allclose(scores, [0.8], atol=5e-3)


def test_open_sides_get_a_default() -> None:
    image = Port(frozenset({"input"}), (1, 3, -1, -1), "f32")
    outputs = [
        Port(frozenset({"dets"}), (1, -1, 5), "f32"),
        Port(frozenset({"labels"}), (1, -1), "i64"),
    ]
    assert recognise([image], outputs, False, "x").input_hw == (640, 640)


@pytest.mark.parametrize(
    ("image_hw", "input_hw"),
    [
        ((720, 1280), (288, 512)),  # the file's own
        ((1920, 1080), (512, 288)),
        ((480, 640), (320, 448)),
        ((500, 500), (384, 384)),
        ((300, 3000), (128, 1152)),
        ((1, 1), (384, 384)),
    ],
)
def test_our_input_follows_the_picture(
    image_hw: tuple[int, int], input_hw: tuple[int, int]
) -> None:
    assert input_for(image_hw, (288, 512)) == input_hw
    assert input_hw[0] % 32 == input_hw[1] % 32 == 0
    assert input_hw[0] * input_hw[1] <= 288 * 512
    for other in ((288, 512), (512, 288), (384, 384)):
        assert max(fitted_hw(image_hw, input_hw)) >= max(fitted_hw(image_hw, other))


def test_nms_against_every_pair() -> None:
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 50, (60, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(5, 40, (60, 2))], 1).astype(np.float32)
    scores = rng.uniform(0, 1, 60).astype(np.float32)
    kept = nms(boxes, scores, 0.5)
    from hrtrack.geometry import iou

    overlaps = iou(boxes, boxes)
    expected: list[int] = []
    for i in np.argsort(-scores):
        if all(overlaps[i, j] <= 0.5 for j in expected):
            expected.append(int(i))
    assert kept.tolist() == expected
    assert 1 < len(kept) < 60


def test_votes_bring_a_box_nearer_the_truth() -> None:
    rng = np.random.default_rng(1)
    truth = np.array([20, 30, 60, 130], np.float32)
    boxes = (truth + rng.normal(0, 4, (9, 4))).astype(np.float32)
    boxes = np.concatenate([boxes, [[200, 30, 240, 130]]]).astype(np.float32)
    scores = np.linspace(0.9, 0.5, 10).astype(np.float32)
    kept = nms(boxes, scores, 0.5)
    assert kept.tolist() == [0, 9]
    voted = vote(boxes, scores, kept, 0.5)
    assert np.abs(voted[0] - truth).mean() < 0.5 * np.abs(boxes[0] - truth).mean()
    np.testing.assert_allclose(voted[1], boxes[9])
    assert vote(boxes[:0], scores[:0], kept[:0], 0.5).shape == (0, 4)


@pytest.mark.shared
@pytest.mark.parametrize("file", ["yolox_nano.onnx", "deimv2_femto.onnx"])
def test_public_detectors_find_the_labelled_person(shared: Path, file: str) -> None:
    import json

    import cv2

    from hrtrack.geometry import iou

    data = json.loads((shared / "data/lspet/val.json").read_text())
    names = {photo["id"]: photo["file_name"] for photo in data["images"]}
    people = [a for a in data["annotations"] if not a.get("pseudo")]
    people = [a for a in people if a["teacher_agreement"] == 1][:12]
    detector = open_detector(str(shared / "peers" / file), threads=1)
    found = 0
    for person in people:
        photo = cv2.imread(str(shared / "data/lspet/images" / names[person["image_id"]]))
        boxes, scores = detector(np.ascontiguousarray(photo[:, :, ::-1]))
        assert (np.diff(scores) <= 0).all()
        x, y, w, h = person["bbox"]
        best = iou(boxes[scores > 0.4], np.array([[x, y, x + w, y + h]]))
        found += bool(best.size and best.max() > 0.5)
    assert found >= 10
