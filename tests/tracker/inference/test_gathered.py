"""Crops of several threads as one batch, on PyTorch's CPU device."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

from tests.clips import canvas

torch = pytest.importorskip("torch")
from hrtrack.errors import BackendError  # noqa: E402
from hrtrack.models.zoo import resolve  # noqa: E402
from hrtrack.tracker.inference.backends.torch import TorchNetwork  # noqa: E402
from hrtrack.tracker.inference.gathered import GatheredNetwork, Gathering  # noqa: E402


class Watched(TorchNetwork):
    """A network that notes how many crops each call had, and can be held up."""

    def __init__(self) -> None:
        path = resolve("body_fast", task="pose")
        super().__init__(path, "cpu", None, "fp32", None)
        self.counts: list[int] = []
        self.begun, self.go_on = threading.Event(), threading.Event()

    def on_device(self, crops: torch.Tensor, *, heatmaps: bool = False) -> dict[str, torch.Tensor]:
        self.counts.append(len(crops))
        self.begun.set()
        assert self.go_on.wait(60)
        return super().on_device(crops, heatmaps=heatmaps)


@pytest.fixture
def network() -> Watched:
    return Watched()


def crops_for(network: Watched) -> list[np.ndarray]:
    """One, two and three people."""
    height, width = network.input_hw
    one = [cv2.resize(canvas(40 + 30 * i)[:, 40:340], (width, height)) for i in range(6)]
    return [np.stack(one[:1]), np.stack(one[1:3]), np.stack(one[3:])]


def test_all_that_wait_are_one_batch_and_get_their_own(network: Watched) -> None:
    gathered, crops = GatheredNetwork(network), crops_for(network)
    network.go_on.set()
    alone = [network(some, heatmaps=True) for some in crops]
    network.counts.clear()
    network.go_on.clear()
    network.begun.clear()
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(gathered, crops[0])
        assert network.begun.wait(60)
        later = [pool.submit(gathered, some, heatmaps=len(some) == 2) for some in crops]
        while len(gathered._gathering._waiting) < 3:
            pass
        network.go_on.set()
        results = [first.result(60), *(one.result(60) for one in later)]
    assert network.counts == [1, 6]
    for found, expected in zip(results, [alone[0], *alone], strict=True):
        # Larger batches are summed in another order.
        np.testing.assert_allclose(found["keypoints"], expected["keypoints"], atol=1e-3)
    assert [("heatmaps" in found) for found in results] == [False, False, True, False]
    np.testing.assert_allclose(results[2]["heatmaps"], alone[1]["heatmaps"], atol=1e-4)


def test_a_fault_reaches_everybody_and_blocks_nobody(network: Watched) -> None:
    gathered, crops = GatheredNetwork(network), crops_for(network)
    network.go_on.set()
    network.close()
    with ThreadPoolExecutor(3) as pool:
        for one in [pool.submit(gathered, some) for some in crops]:
            with pytest.raises(BackendError, match="closed"):
                one.result(60)


def test_nobody_is_no_work(network: Watched) -> None:
    network.go_on.set()
    none = np.zeros((0, *network.input_hw, 3), np.uint8)
    assert GatheredNetwork(network)(none)["keypoints"].shape == (0, len(network.skeleton), 3)


def test_whoever_waits_while_a_batch_runs_is_in_the_next() -> None:
    callers, calls = 6, 50
    calling = set(range(callers))
    batches: list[set[tuple[int, int]]] = []
    owed: set[tuple[int, int]] = set()

    def run(given: list[tuple[int, int]]) -> list[tuple[int, int]]:
        nonlocal owed
        batches.append(set(given))
        assert owed <= batches[-1]
        while len(gathering._waiting) + len(given) < len(calling):
            pass  # until all others wait, too
        owed = {one.given for one in gathering._waiting}
        return given

    gathering: Gathering[tuple[int, int], tuple[int, int]] = Gathering(run)

    def call(place: int) -> None:
        try:
            for number in range(calls):
                assert gathering((place, number)) == (place, number)
        finally:
            calling.remove(place)

    with ThreadPoolExecutor(callers) as pool:
        for one in [pool.submit(call, place) for place in range(callers)]:
            one.result(60)
    assert sum(map(len, batches)) == callers * calls
    assert max(map(len, batches)) > 1
