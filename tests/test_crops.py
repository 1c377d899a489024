"""All cutters read a picture at the same places."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from hrtrack import geometry
from hrtrack.crops import cut, sample
from hrtrack.tracker.inference.crop import Cropper

torch = pytest.importorskip("torch")

SIZE = (128, 96)
BOXES = np.array([[40.0, 30, 120, 200], [-30, 60, 90, 160], [150, 100, 260, 290]])


@pytest.fixture
def photo() -> np.ndarray:
    coarse = np.random.default_rng(0).integers(0, 256, (9, 8, 3), np.uint8)
    return cv2.resize(coarse, (220, 240), interpolation=cv2.INTER_CUBIC)


@pytest.mark.parametrize("degrees", [0.0, 31.0])
def test_tensors_are_cut_like_arrays(photo: np.ndarray, degrees: float) -> None:
    windows = geometry.crop_boxes(BOXES, 96 / 128)
    maps = np.stack([geometry.rotated_affine(w[:2], float(w[2]), degrees, SIZE) for w in windows])
    if not degrees:
        np.testing.assert_allclose(maps, geometry.box_affines(BOXES, SIZE))
    crops = np.stack([cut(photo, one, SIZE) for one in maps]).astype(float)
    back = torch.from_numpy(geometry.invert(maps).astype(np.float32))
    one = sample(torch.from_numpy(photo), back, SIZE)
    many = sample(torch.from_numpy(np.stack([photo] * 3)), back, SIZE)
    torch.testing.assert_close(one, many)
    off = np.abs(one.permute(0, 2, 3, 1).numpy() - crops)
    # OpenCV reads at 32nds of a pixel, and PyTorch fades to black over the outermost pixel.
    assert off.mean() < 0.7
    assert np.percentile(off, 99) < 4
    assert (crops[1] == 0).mean() > 0.1
    grey = cut(photo, maps[1], SIZE, border=77)
    assert grey[crops[1].max(axis=2) == 0].mean() == pytest.approx(77, abs=6)


def test_the_trackers_crops_show_the_same(photo: np.ndarray) -> None:
    crops, to_image = Cropper(SIZE)(photo, BOXES)
    exact = np.stack([cut(photo, one, SIZE) for one in geometry.invert(to_image)])
    seen = (exact > 0).all(axis=3) & (crops > 0).all(axis=3)
    assert np.abs(crops.astype(float) - exact)[seen].mean() < 1
    apart = to_image - geometry.invert(geometry.box_affines(BOXES, SIZE))
    assert np.abs(apart[..., 2]).max() < 1.5
