"""Both decoders against the official post-processing, the truth, and each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from hrtrack.geometry import crop_affines, invert, transform
from hrtrack.models.pose.decode import decode, flip_average, flip_back
from hrtrack.models.pose.graph import Dark
from hrtrack.skeleton import COCO17


def gaussians(centres: np.ndarray, sigma: float, height: int = 64, width: int = 48) -> np.ndarray:
    """Heatmaps (N, K, H, W) with peaks of 1 at centres (N, K, 2)."""
    y, x = np.mgrid[:height, :width]
    dx, dy = x - centres[..., 0, None, None], y - centres[..., 1, None, None]
    return np.exp(-(dx**2 + dy**2) / (2 * sigma**2)).astype(np.float32)


@pytest.mark.shared
def test_argmax_equals_the_official_post_processing(shared: Path) -> None:
    golden = np.load(shared / "golden/decode.npz")
    keypoints = decode(golden["heatmaps"], "argmax")
    windows = np.concatenate([golden["center"], golden["scale"] * 200], axis=1)
    to_image = invert(crop_affines(windows.astype(np.float64), (256, 192)))
    points = transform(keypoints[..., :2].astype(np.float64), to_image)
    assert np.abs(points - golden["preds"]).max() < 1e-3
    assert np.array_equal(keypoints[..., 2:], golden["maxvals"])


@pytest.mark.shared
def test_flip_back_equals_the_official_one(shared: Path) -> None:
    golden = np.load(shared / "golden/decode.npz")
    turned = flip_back(golden["heatmaps"], COCO17.mirror)
    assert np.array_equal(turned, golden["flipped_back_shifted"])


@pytest.mark.parametrize("sigma", [2.0, 3.0])
def test_dark_finds_the_centre_of_a_gaussian(sigma: float) -> None:
    centres = np.random.default_rng(0).uniform(6, 40, (20, 17, 2))
    maps = gaussians(centres, sigma)
    error = np.linalg.norm(decode(maps, "dark", sigma)[..., :2] / 4 - centres, axis=2)
    assert error.max() < 0.03
    quarter = np.linalg.norm(decode(maps, "argmax")[..., :2] / 4 - centres, axis=2)
    assert error.mean() < 0.1 * quarter.mean()


def test_dark_stays_on_the_peak_at_the_border_and_on_noise() -> None:
    maps = gaussians(np.array([[[0.0, 0.0], [47.0, 63.0], [1.0, 30.0]]]), 2.0)
    assert np.array_equal(decode(maps)[0, :, :2] / 4, [[0, 0], [47, 63], [1, 30]])
    noise = np.random.default_rng(1).random((2, 5, 64, 48), np.float32)
    peaks = np.stack(np.unravel_index(noise.reshape(2, 5, -1).argmax(2), (64, 48))[::-1], 2)
    assert np.abs(decode(noise)[..., :2] / 4 - peaks).max() <= 1


def test_an_empty_map_gives_nothing() -> None:
    assert np.array_equal(decode(np.full((1, 1, 8, 8), -1.0, np.float32)), [[[0, 0, -1]]])
    assert decode(np.zeros((0, 17, 64, 48), np.float32)).shape == (0, 17, 3)


def test_the_graph_decodes_as_numpy_does() -> None:
    generator = np.random.default_rng(2)
    maps = gaussians(generator.uniform(-2, 64, (4, 17, 2)), 2.0)
    maps = 0.8 * maps + 0.05 * generator.standard_normal(maps.shape).astype(np.float32)
    maps[0, 0] = -1
    expected = decode(maps)
    expected[..., 2] = expected[..., 2].clip(0, 1)
    found = Dark(2.0)(torch.from_numpy(maps)).numpy()
    assert np.abs(found - expected).max() < 1e-3


def test_flip_average_of_a_symmetric_pair() -> None:
    maps = gaussians(np.random.default_rng(3).uniform(8, 40, (1, 17, 2)), 2.0)
    mirrored = maps[:, list(COCO17.mirror), :, ::-1]
    assert np.array_equal(flip_average(maps, mirrored, COCO17.mirror, shift=False), maps)
    shifted = flip_average(maps, mirrored, COCO17.mirror)
    moved = decode(shifted)[..., 0] - decode(maps)[..., 0]
    assert np.allclose(moved, 2.0, atol=0.1)  # half of one column of 4 pixels


@pytest.mark.parametrize("how", ["dark", "argmax"])
def test_unbiased_cells_reach_from_the_first_pixel_to_the_last(how: str) -> None:
    corners = np.array([[[0.0, 0.0], [47.0, 63.0], [23.5, 31.5]]])
    maps = gaussians(corners, 2.0)
    expected = np.array([[0, 0], [191, 255], [95.5, 127.5]])
    read = decode(maps, how, 2.0, unbiased=True)[0, :, :2]  # type: ignore[arg-type]
    # The quarter offset cannot say more than a quarter of a cell.
    assert np.abs(read - expected).max() < (0.1 if how == "dark" else 2.1)
    assert np.abs(read[:2] - expected[:2]).max() < 1e-3
    if how == "dark":
        found = Dark(2.0, unbiased=True)(torch.from_numpy(maps)).numpy()
        assert np.abs(found[0, :, :2] - read).max() < 1e-3
        # With the official coordinates the far corner stays three pixels short.
        assert np.allclose(decode(maps)[0, 1, :2], [188, 252])
