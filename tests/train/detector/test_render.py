"""A detector's canvases painted beside the network."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hrtrack.configs.detector_schema import MosaicSection, SetSection  # noqa: E402
from hrtrack.train.detector.mosaic import Colours, Layer, MosaicSpec, random_mosaics  # noqa: E402
from hrtrack.train.detector.photos import PhotoStore, build_store  # noqa: E402
from hrtrack.train.detector.render import DeviceRenderer, mosaic_tensors, render  # noqa: E402

CPU = torch.device("cpu")
NOBODY = np.zeros((0, 4), np.float32), np.zeros(0, np.int8)


@pytest.fixture
def store(tmp_path: Path) -> PhotoStore:
    """Five photos of coloured clouds, odd and even in size, with one labelled person each."""
    rng = np.random.default_rng(2)
    images, annotations = [], []
    for i, (h, w) in enumerate([(200, 301), (311, 160), (128, 128), (90, 250), (333, 417)]):
        small = rng.integers(0, 256, (6, 8, 3), np.uint8)
        photo = cv2.resize(small, (w, h), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(tmp_path / f"{i}.png"), photo)
        images.append({"id": i, "file_name": f"{i}.png"})
        annotations.append({"image_id": i, "bbox": [w // 3, h // 8, w // 4, 3 * h // 4]})
    content = {"images": images, "annotations": annotations}
    (tmp_path / "people.json").write_text(json.dumps(content))
    sets = [SetSection(annotations="people.json", images=".")]
    build_store(sets, tmp_path, tmp_path / "cache", quiet=True)
    return PhotoStore(tmp_path / "cache", 0.5, [1.0])


@pytest.mark.slow
def test_both_renderers_render_the_same(store: PhotoStore) -> None:
    rng = np.random.default_rng(4)
    canvases = [MosaicSection(size=(192, 256), mosaic=0.5, paste=0.6)]
    mosaics = random_mosaics(store, canvases, 100, rng)
    found = DeviceRenderer(store, CPU)(mosaic_tensors(mosaics, 1)).numpy()
    assert found.shape == (100, 192, 256, 3)
    kinds = {"tiles": 0, "pasted": 0, "blurred": 0, "shrunk": 0, "compressed": 0}
    for mosaic, other in zip(mosaics, found, strict=True):
        colours = mosaic.colours
        if colours.noise:
            continue
        kinds["compressed"] += colours.jpeg > 0
        kinds["tiles"] += len(mosaic.layers) > 3
        kinds["pasted"] += any(layer.faded for layer in mosaic.layers)
        kinds["blurred"] += colours.blur > 0
        kinds["shrunk"] += any(layer.smooth for layer in mosaic.layers)
        off = np.abs(render(mosaic, store, rng).astype(int) - other)
        # Edges of tiles and copies at half the size are where they may differ.
        assert off.mean() < 1.5
        assert np.percentile(off, 95) <= 8
    assert min(kinds.values()) >= 2


def test_noise_is_as_strong_as_said_and_of_the_seed(store: PhotoStore) -> None:
    plain = Layer(2, (0, 0, 128, 128), (0, 0, 128, 128), mirrored=False, smooth=False)
    clean, noisy = (
        MosaicSpec((128, 128), (plain,), Colours(gains=(0.3, 0.3, 0.3), noise=noise), *NOBODY)
        for noise in (0.0, 9.0)
    )
    renderer = DeviceRenderer(store, CPU)
    first, second, again, other = (
        renderer(mosaic_tensors([mosaic], seed)).float()
        for mosaic, seed in ((clean, 1), (noisy, 1), (noisy, 1), (noisy, 2))
    )
    assert float((second - first).std()) == pytest.approx(9, rel=0.05)
    torch.testing.assert_close(second, again)
    assert float((second - other).abs().mean()) > 3


def test_a_shrunk_photo_is_averaged_and_a_mirrored_one_mirrored(store: PhotoStore) -> None:
    whole = store[4].image
    height, width = whole.shape[:2]
    target = (5, 7, 5 + width // 4, 7 + height // 4)
    for mirrored in (False, True):
        layer = Layer(4, (0, 0, width, height), target, mirrored, smooth=True)
        mosaic = MosaicSpec((96, 128), (layer,), Colours(), *NOBODY)
        (found,) = DeviceRenderer(store, CPU)(mosaic_tensors([mosaic], 0)).numpy()
        small = cv2.resize(whole, (width // 4, height // 4), interpolation=cv2.INTER_AREA)
        part = found[7 : target[3], 5 : target[2]]
        expected = small[:, ::-1] if mirrored else small
        assert np.abs(part.astype(int) - expected).mean() < 1
        part[:] = 114
        assert (found == 114).all()
