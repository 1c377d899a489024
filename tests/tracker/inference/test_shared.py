"""Networks that divide the cores among streams: the same numbers to the bit."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

from hrtrack.models.runtimes.openvino import CALLERS
from hrtrack.tracker.inference.open import open_detector, open_network
from tests.clips import canvas

from .sharing import until_shared


@pytest.mark.parametrize("precision", ["auto", pytest.param("fp32", marks=pytest.mark.slow)])
def test_a_shared_pose_network_gives_the_same_bits(precision) -> None:
    network = open_network("body_fast", precision=precision, threads=3)
    height, width = network.input_hw
    crops = np.stack(
        [cv2.resize(canvas(30 * i)[:, 20 * i : 20 * i + 300], (width, height)) for i in range(8)]
    )
    alone = [network(crops[i : i + 1])["keypoints"] for i in range(8)]
    network.share(3)
    until_shared(network)
    used = []
    aside = network._side_by_side
    network._side_by_side = lambda *given: used.append(1) or aside(*given)

    def one(place: int) -> np.ndarray:
        with CALLERS.enter():  # somebody else is always at work
            return network(crops[place : place + 1])["keypoints"]

    with ThreadPoolExecutor(4) as pool:
        for found, expected in zip(pool.map(one, range(8)), alone, strict=True):
            np.testing.assert_array_equal(found, expected)
    assert len(used) == 8
    before = len(used)
    np.testing.assert_array_equal(network(crops[:1])["keypoints"], alone[0])
    assert len(used) == before  # alone it has all cores
    network.close()


def test_a_crop_that_makes_room_gives_the_same_bits() -> None:
    network = open_network("body_fast", threads=2)
    height, width = network.input_hw
    crops = np.stack([cv2.resize(canvas(30 * i), (width, height)) for i in range(4)])
    alone = [network(crops[i : i + 1])["keypoints"] for i in range(4)]
    until_shared(network)
    used = []
    aside = network._side_by_side
    network._side_by_side = lambda *given: used.append(1) or aside(*given)
    with CALLERS.enter():
        network(crops[:1])
        assert not used  # all cores, as long as nobody has asked for room
        network.make_room()
        for place in range(4):
            found = network(crops[place : place + 1])["keypoints"]
            np.testing.assert_array_equal(found, alone[place])
    assert len(used) == 4
    network.close()


def test_a_detector_that_makes_room_gives_the_same_bits() -> None:
    roomy, detector = (open_detector("person_fast", threads=2) for _ in range(2))
    roomy.make_room()
    with CALLERS.enter():
        for image in (canvas(20 * i) for i in range(3)):
            for found, expected in zip(roomy(image), detector(image), strict=True):
                np.testing.assert_array_equal(found, expected)
                assert len(found)
    assert {shares for *_, shares in roomy._runners} == {2}  # nothing else had to be compiled
    roomy.close()
    detector.close()


def test_two_threads_that_compile_prepare_the_graph_once() -> None:
    network = open_network("body_fast", threads=2)
    network._side.submit(int).result()  # behind the first compilation
    network._model, network._prepared = None, False  # as where every network so far was kept
    read, both = [], threading.Barrier(2)
    read_again = network._read_again

    def slowly():
        read.append(1)
        time.sleep(0.1)
        return read_again()

    network._read_again = slowly

    def compiles(size: int) -> int:
        both.wait()
        return len(network._shaped(size).get_ops())

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(compiles, (1, 2)))
    assert len(read) == 1
    assert found[0] == found[1]
    network.close()


def test_a_shared_detector_gives_the_same_bits() -> None:
    detector = open_detector("person_fast", threads=3)
    images = [canvas(20 * i) for i in range(6)]
    alone = [detector(image) for image in images]
    detector.share(3)

    def one(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with CALLERS.enter():
            return detector(image)

    with ThreadPoolExecutor(4) as pool:
        for found, expected in zip(pool.map(one, images), alone, strict=True):
            np.testing.assert_array_equal(found[0], expected[0])
            np.testing.assert_array_equal(found[1], expected[1])
    assert all(len(boxes) for boxes, _ in alone)
    detector.close()
