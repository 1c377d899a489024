"""SimCC in numpy against the published rule, written out joint by joint."""

from __future__ import annotations

import numpy as np
import pytest

from hrtrack.errors import ModelError
from hrtrack.models.info import guess_info
from hrtrack.models.pose.foreign import describe_foreign
from hrtrack.models.pose.simcc import decode_simcc, joint_maps, mirror_mean
from hrtrack.skeleton import COCO17, MPII16


def published(simcc_x: np.ndarray, simcc_y: np.ndarray, split: float) -> np.ndarray:
    """Each axis' first highest bin; the lower peak; bin -1 where that is not positive."""
    found = np.zeros((*simcc_x.shape[:2], 3))
    for n, person in enumerate(simcc_x):
        for k, row in enumerate(person):
            column = simcc_y[n, k]
            x, y = list(row).index(max(row)), list(column).index(max(column))
            score = min(row[x], column[y])
            found[n, k] = (x, y, score) if score > 0 else (-1, -1, score)
    found[..., :2] /= split
    return found


@pytest.mark.parametrize(("joints", "height", "width"), [(17, 256, 192), (133, 64, 48)])
def test_it_is_the_published_rule(joints: int, height: int, width: int) -> None:
    random = np.random.default_rng(joints)
    x = random.normal(0, 0.4, (3, joints, 2 * width)).astype(np.float32)
    y = random.normal(0, 0.4, (3, joints, 2 * height)).astype(np.float32)
    x[1, 2] = -np.abs(x[1, 2])
    y[2, 5] = -np.abs(y[2, 5]) - 1
    y[0, 1, [7, 9]] = 5.0  # of equals the first
    np.testing.assert_allclose(decode_simcc(x, y), published(x, y, 2.0), rtol=1e-6)
    tenfold = decode_simcc(10 * x, 10 * y, 2.0, certain=10.0)
    np.testing.assert_allclose(tenfold, decode_simcc(x, y), rtol=1e-5)
    assert decode_simcc(x[:0], y[:0]).shape == (0, joints, 3)


def test_maps_have_their_peak_where_the_joint_is() -> None:
    random = np.random.default_rng(1)
    x = random.random((2, 17, 2 * 48)).astype(np.float32)
    y = random.random((2, 17, 2 * 64)).astype(np.float32)
    maps, found = joint_maps(x, y), decode_simcc(x, y)
    assert maps.shape == (2, 17, 16, 12)
    np.testing.assert_allclose(maps.max(axis=(2, 3)), found[..., 2])
    cells = (found[..., :2] // 4).astype(int)
    here = maps[np.arange(2)[:, None], np.arange(17), cells[..., 1], cells[..., 0]]
    np.testing.assert_allclose(here, found[..., 2])


def test_the_mean_with_the_mirror_image_keeps_what_agrees() -> None:
    """Bins made for a crop and, from the mirrored joints, for its mirror image."""
    width, height, joints = 48, 64, len(COCO17)
    random = np.random.default_rng(2)
    at_x, at_y = random.integers(0, width, joints), random.integers(0, height, joints)

    def bins(places: np.ndarray, length: int) -> np.ndarray:
        spread = np.arange(2 * length)[None] - 2 * places[:, None]
        return np.exp(-(spread**2) / 50.0).astype(np.float32)

    order = list(COCO17.mirror)
    x = np.stack([bins(at_x, width), bins(width - 1 - at_x[order], width)])
    y = np.stack([bins(at_y, height), bins(at_y[order], height)])
    mean_x, mean_y = mirror_mean(x, y, COCO17.mirror)
    np.testing.assert_allclose(mean_x, x[:1], atol=1e-6)
    np.testing.assert_allclose(mean_y, y[:1], atol=1e-6)
    found = decode_simcc(mean_x, mean_y)[0]
    np.testing.assert_array_equal(found[:, :2], np.stack([at_x, at_y], axis=1))


CROPS = {"input": (-1, 3, 256, 192)}


@pytest.mark.parametrize(
    ("outputs", "split"),
    [
        ({"simcc_x": (-1, 17, 384), "simcc_y": (-1, 17, 512)}, 2.0),
        ({"simcc_y": (1, 17, 512), "simcc_x": (1, 17, 384)}, 2.0),
        ({"output": (1, 17, 384), "1554": (1, 17, 512)}, 2.0),
        ({"simcc_x": (1, 16, 576), "simcc_y": (1, 16, 768)}, 3.0),
    ],
)
def test_it_is_told_by_its_outputs(outputs: dict[str, tuple[int, ...]], split: float) -> None:
    found = describe_foreign(CROPS, outputs, "end2end.onnx")
    joints = next(iter(outputs.values()))[1]
    assert found.skeleton == (COCO17 if joints == 17 else MPII16)
    assert (found.input_hw, found.split, found.certain) == ((256, 192), split, 1.0)


@pytest.mark.parametrize(
    "outputs",
    [
        {},
        {"simcc_x": (1, 17, 384)},
        {"simcc_x": (1, 17, 384), "simcc_y": (1, 17, 384)},
        {"simcc_x": (1, 17, 384), "simcc_y": (1, 16, 512)},
        {"simcc_x": (1, 17, 384), "simcc_y": (1, 17, 512), "simcc_z": (1, 17, 576)},
        {"simcc_x": (1, -1, 384), "simcc_y": (1, -1, 512)},
        {"heatmap": (1, 17, 32, 24)},
        {"heatmap": (1, 17, -1, -1)},
    ],
)
def test_what_only_looks_alike_is_refused(outputs: dict[str, tuple[int, ...]]) -> None:
    with pytest.raises(ModelError, match="expected") as caught:
        describe_foreign(CROPS, outputs, "end2end.onnx")
    assert "\n" not in str(caught.value)


def test_joints_that_nobody_knows() -> None:
    with pytest.raises(ModelError, match="predicts 98 joints"):
        describe_foreign(CROPS, {"x": (1, 98, 384), "y": (1, 98, 512)}, "face.onnx")


def test_what_the_name_says() -> None:
    assert guess_info(COCO17, "rtmw-dw-x-l_simcc-cocktail14_270e-384x288.onnx").certain == 10.0
    assert guess_info(COCO17, "rtmw_l_384x288.onnx").certain == 10.0
    assert guess_info(COCO17, "rtmpose_l_384x288.onnx").certain == 1.0
    assert guess_info(COCO17, "vitpose-b-coco.onnx").unbiased
    assert guess_info(COCO17, "td-hm_ViTPose-small_coco-256x192.onnx").unbiased
    assert not guess_info(COCO17, "tinypose_256x192.onnx").unbiased
