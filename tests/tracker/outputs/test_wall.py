"""Several streams in one page: a tile for each, drawn when somebody looks."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from hrtrack.poses import Poses
from hrtrack.skeleton import COCO17
from hrtrack.tracker.outputs.base import Run
from hrtrack.tracker.outputs.viewers.wall import GAP, GREY, Wall, fitted
from hrtrack.tracker.stopwatch import Stopwatch
from hrtrack.tracker.video.frame import Frame

pytest.importorskip("aiohttp")
import cv2

from hrtrack.tracker.outputs.viewers.browser import Viewer, viewer

from .test_browser import Watcher, get, until

if TYPE_CHECKING:
    from hrtrack.tracker.outputs.base import Picture

GREYS = (60, 140, 220)


def poses(number: int, identity: int) -> Poses:
    return Poses(
        number, number / 30, np.zeros((1, 4), np.float32), np.ones(1, np.float32),
        np.zeros((1, 17, 2), np.float32), np.zeros((1, 17), np.float32), np.array([identity]),
    )  # fmt: skip


def test_a_page_shows_every_stream(tmp_path: Path) -> None:
    wall = Wall(
        ["left", "right", "door"], [viewer("0", "openvino", wall=True)], COCO17, Stopwatch()
    )
    (page,) = wall._views
    assert isinstance(page, Viewer)
    watcher = Watcher(page.url)
    done, drawn = threading.Event(), [0, 0, 0]

    def stream(place: int) -> None:
        image = np.full((300, 400, 3), GREYS[place], np.uint8)

        def picture() -> np.ndarray:
            drawn[place] += 1
            return image

        number = 0
        while not done.wait(0.005):
            wall.tiles[place].write(Frame(number, number / 30, image), poses(number, 1), picture)
            number += 1

    threads = [threading.Thread(target=stream, args=(place,)) for place in range(3)]
    for thread in threads:
        thread.start()

    def seen() -> bool:
        return len(watcher.pictures()) > 4

    until(seen, wall.show)
    figures = json.loads(get(page.url + "figures")[1])
    done.set()
    for thread in threads:
        thread.join()
    assert figures["source"] == "left, right, door"
    assert (figures["people"], figures["ids"], figures["results"]) == (3, 3, False)
    assert get(page.url + "results")[0] == 404
    image = cv2.imdecode(np.frombuffer(watcher.pictures()[3], np.uint8), cv2.IMREAD_COLOR)
    height, width = image.shape[:2]
    centres = [
        (height // 4, width // 4),
        (height // 4, width * 3 // 4),
        (height * 3 // 4, width // 4),
    ]
    for (row, column), grey in zip(centres, GREYS, strict=True):
        assert abs(int(image[row, column].mean()) - grey) < 8
    assert image[height * 3 // 4, width * 3 // 4].max() < 8
    wall.close()


def test_nothing_is_drawn_while_nobody_looks() -> None:
    wall = Wall(["left", "right"], [viewer("0", wall=True)], COCO17, Stopwatch())

    def picture() -> np.ndarray:
        raise AssertionError("drawn")

    image = np.zeros((48, 64, 3), np.uint8)
    for number in range(5):
        assert wall.tiles[0].write(Frame(number, 0.0, image), poses(number, 1), picture)
        wall.show()
    wall.close()


def test_closing_the_wall_ends_every_stream() -> None:
    class Closed(Viewer):
        def write(self, *_: object) -> bool:
            return False

    def make(run: object) -> Viewer:
        return Closed(run, "127.0.0.1", 0, "", None, wall=True)

    wall = Wall(["left", "right"], [make], COCO17, Stopwatch())
    wall.show()
    image = np.zeros((48, 64, 3), np.uint8)
    for tile in wall.tiles:
        assert not tile.write(Frame(0, 0.0, image), poses(0, 1), lambda: image)
    wall.close()


class Kept:
    """A view that keeps what it is shown."""

    def __init__(self) -> None:
        self.image = np.zeros((0, 0, 3), np.uint8)
        self.size = (0, 0)

    def __call__(self, run: Run) -> Kept:
        self.size = run.source.size
        return self

    def wants(self) -> bool:
        return True

    def write(self, frame: Frame, poses: Poses, picture: Picture) -> bool:
        self.image = picture()
        return True

    def close(self, *, complete: bool) -> None: ...


@pytest.mark.parametrize("count", [1, 2, 3, 5, 7])
def test_tiles_stand_apart_and_ended_ones_are_dark(count: int) -> None:
    view = Kept()
    labels = [f"camera {place}, whose name is far too long for its tile" * 2 for place in range(5)]
    wall = Wall([*labels, "six", "seven"][:count], [view], COCO17, Stopwatch())
    wall.show()
    image = np.full((500, 90 * count, 3), 200, np.uint8)
    for tile in wall.tiles[1:]:
        tile.write(Frame(0, 0.0, image), poses(0, 1), lambda: image)
    wall.tiles[-1].close(complete=True)
    wall.show()
    height, width = view.image.shape[:2]
    assert view.size == (width, height)
    assert width % 2 == height % 2 == 0
    found, wide, tall = view.image, *wall.tiles[0].size
    columns, rows = (width + GAP) // (wide + GAP), (height + GAP) // (tall + GAP)
    # Nothing that is drawn runs over into what is between the tiles.
    for column in range(1, columns):
        assert (found[:, column * (wide + GAP) - GAP : column * (wide + GAP)] == GREY).all()
    for row in range(1, rows):
        assert (found[row * (tall + GAP) - GAP : row * (tall + GAP)] == GREY).all()
    centres = [
        int(found[row * (tall + GAP) + tall // 2, column * (wide + GAP) + wide // 2].mean())
        for row in range(rows)
        for column in range(columns)
    ]
    shown = [0, *[200] * (count - 2), 100][:count] if count > 1 else [0]
    assert centres == [*shown, *[0] * (rows * columns - count)]
    wall.close()


def test_pictures_keep_their_shape() -> None:
    found = fitted(np.full((300, 100, 3), 200, np.uint8), (640, 360))
    assert found.shape == (360, 640, 3)
    columns = np.flatnonzero(found[180, :, 0])
    assert (columns[0], len(columns)) == (260, 120)
