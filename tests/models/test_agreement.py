"""When two networks agree, and pictures that are the same everywhere."""

from __future__ import annotations

import numpy as np

from hrtrack.models.agreement import TOLERANCES, compare, drawn_crops
from hrtrack.skeleton import COCO17


def answer(score: float = 0.8) -> np.ndarray:
    generator = np.random.default_rng(0)
    points = generator.uniform(20, 170, (4, 17, 2))
    return np.concatenate([points, np.full((4, 17, 1), score)], axis=2).astype(np.float32)


def moved(by: float) -> np.ndarray:
    return answer() + np.array([by, 0, 0], np.float32)


def test_the_same_answer_agrees_and_a_moved_one_does_not() -> None:
    same = compare(answer(), answer(), COCO17, (256, 192))
    assert (same.mean_pixels, same.oks, same.decided) == (0, 1, 68)
    assert same.within(TOLERANCES["fp32"])
    near = compare(answer(), moved(0.2), COCO17, (256, 192))
    assert abs(near.mean_pixels - 0.2) < 1e-3
    assert near.within(TOLERANCES["fp16"])
    assert not near.within(TOLERANCES["fp32"])
    far = compare(answer(), moved(5), COCO17, (256, 192))
    assert not far.within(TOLERANCES["int8"])
    assert far.oks < 0.96


def test_scores_count_even_where_places_do_not() -> None:
    weak = answer(0.1)
    elsewhere = weak + np.array([50, 0, 0], np.float32)
    assert compare(weak, elsewhere, COCO17, (256, 192)).within(TOLERANCES["fp16"])
    louder = weak + np.array([0, 0, 0.02], np.float32)
    assert not compare(weak, louder, COCO17, (256, 192)).within(TOLERANCES["fp16"])


def test_drawn_crops_are_the_same_each_time() -> None:
    crops = drawn_crops((128, 96), 3)
    assert crops.shape == (3, 128, 96, 3)
    assert crops.dtype == np.uint8
    assert np.array_equal(crops[:2], drawn_crops((128, 96), 2))
    assert crops.std(axis=(1, 2, 3)).min() > 20


def test_who_is_sure_of_nothing_is_judged_by_the_maps() -> None:
    generator = np.random.default_rng(0)
    # Nearly flat, as after two steps of training: the peaks hardly differ whatever the maps show.
    maps = (0.05 + generator.normal(0, 1e-4, (4, 17, 32, 24))).astype(np.float32)
    rounded = (maps + generator.normal(0, 1e-6, maps.shape)).astype(np.float32)
    weak = answer(0.05)
    same = compare(weak, weak, COCO17, (256, 192), maps=(maps, rounded))
    assert same.within(TOLERANCES["fp16"])
    assert not same.within(TOLERANCES["fp32"])
    other = compare(weak, weak, COCO17, (256, 192), maps=(maps, maps[::-1]))
    assert not other.within(TOLERANCES["int8"])
    assert "no joint was sure" in str(other)
    assert "OKS" not in str(other)
