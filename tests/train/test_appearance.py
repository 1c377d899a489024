"""Both painters paint the same picture of the same numbers."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hrtrack.train.appearance import (  # noqa: E402
    Blur,
    Compress,
    Cover,
    Look,
    Noise,
    Recolour,
    Saturate,
    paint,
    paint_all,
)

SIZE = (118, 90)


@pytest.fixture
def pictures() -> np.ndarray:
    """Three pictures with soft colours and a sharp, bright figure."""
    rng = np.random.default_rng(0)
    made = []
    for _ in range(3):
        coarse = rng.integers(0, 256, (7, 5, 3), np.uint8)
        picture = cv2.resize(coarse, SIZE[::-1], interpolation=cv2.INTER_CUBIC)
        cv2.line(picture, (10, 20), (70, 100), (250, 240, 30), 6)
        made.append(picture)
    return np.stack(made)


def _table(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (256, 3)).astype(np.uint8)


def _both(pictures: np.ndarray, looks: list[Look]) -> tuple[np.ndarray, np.ndarray]:
    rng, dice = np.random.default_rng(1), torch.Generator().manual_seed(1)
    here = np.stack([paint(one, look, rng) for one, look in zip(pictures, looks, strict=True)])
    there = paint_all(torch.from_numpy(pictures), looks, dice)
    assert there.dtype == torch.uint8
    return here.astype(int), there.numpy().astype(int)


STEPS = {
    "shrunk": [Blur("shrunk", share) for share in (0.34, 0.5, 0.66)],
    "sizes": [Blur("size", 3), Blur("size", 5), None],
    "deviations": [Blur("deviation", 0.6), Blur("deviation", 1.3), None],
    "moved": [Blur("across", 5), Blur("down", 7), Blur("across", 7)],
    "tables": [Recolour(_table(0)), None, Recolour(_table(1))],
    "colours": [Saturate(0.0), Saturate(0.4), Saturate(1.6)],
    "covers": [
        Cover(((5, 9, 30, 20, (200, 10, 90), (5, 9)), (20, 20, 40, 25, None, (70, 60)))),
        Cover(((60, 3, 25, 25, None, (5, 50)),)),
        None,
    ],
}


@pytest.mark.parametrize("kind", STEPS)
def test_each_step_is_the_same_within_a_grey_value(pictures: np.ndarray, kind: str) -> None:
    here, there = _both(pictures, [(step,) for step in STEPS[kind]])
    assert np.abs(here - there).max() <= (2 if kind == "shrunk" else 1)
    changed = [
        np.abs(one - two).max() > 5 for one, two in zip(here, pictures.astype(int), strict=True)
    ]
    assert changed == [step is not None for step in STEPS[kind]]


@pytest.mark.parametrize("quality", [15, 40, 79])
def test_jpeg_loses_the_same(pictures: np.ndarray, quality: int) -> None:
    here, there = _both(pictures, [(Compress(quality),)] * 3)
    lost = np.abs(here - pictures.astype(int)).mean()
    off = np.abs(here - there)
    # Here and there a coefficient is rounded to the other side: a whole block is off then.
    assert off.mean() < 0.2 * lost
    assert np.percentile(off, 95) <= 4


def test_noise_is_as_strong_as_said() -> None:
    grey = np.full((2, *SIZE, 3), 128, np.uint8)
    for painted in _both(grey, [(Noise(9.0, coloured=True),), (Noise(9.0, coloured=True),)]):
        assert painted.std() == pytest.approx(9, rel=0.05)
        assert np.abs(painted[0] - painted[1]).mean() > 5
        assert np.abs(painted[..., 0] - painted[..., 1]).mean() > 5
    for painted in _both(grey, [(Noise(9.0, coloured=False),), (None,)]):
        assert painted[0].std() == pytest.approx(9, rel=0.05)
        assert (painted[0, ..., 0] == painted[0, ..., 2]).all()
        assert (painted[1] == 128).all()


def test_a_whole_look_is_the_same_within_a_few(pictures: np.ndarray) -> None:
    looks = [
        (STEPS["shrunk"][0], Recolour(255 - _ramp() // 2), Saturate(0.5), Compress(60), None),
        (STEPS["moved"][1], None, None, None, STEPS["covers"][1]),
        (None, None, None, None, None),
    ]
    here, there = _both(pictures, looks)
    off = np.abs(here - there)
    assert off.mean() < 1
    assert np.percentile(off, 98) <= 4
    assert (there[2] == pictures[2]).all()


def _ramp() -> np.ndarray:
    return np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
