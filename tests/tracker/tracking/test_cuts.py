"""Cuts end tracks; flashes, fades, black frames, shaking and panning do not."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from hrtrack.poses import Poses
from hrtrack.skeleton import COCO17
from hrtrack.tracker.api import Tracker
from hrtrack.tracker.tracking.associate import Tracks
from hrtrack.tracker.tracking.cuts import CutDetector
from hrtrack.tracker.tracking.proposals import BoxProposer
from hrtrack.tracker.video.frame import Frame
from hrtrack.tracker.video.open import open_source
from tests.clips import canvas, portrait
from tests.tracker.tracking.people import frame

Image = NDArray[np.uint8]


def scene(seed: int, size: tuple[int, int] = (720, 900)) -> Image:
    """A picture made of soft blobs and hard-edged things in colours of its own."""
    random = np.random.default_rng(seed)
    height, width = size
    coarse = random.integers(0, 255, (5, 7, 3), dtype=np.uint8)
    picture = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(25):
        x, y = random.integers(0, [width, height]).tolist()
        w, h = random.integers(20, 160, 2).tolist()
        colour = random.integers(0, 255, 3).tolist()
        cv2.rectangle(picture, (x, y), (x + w, y + h), colour, -1)
    noisy = picture.astype(np.int16) + random.integers(-8, 9, picture.shape)
    return noisy.clip(0, 255).astype(np.uint8)


def view(picture: Image, x: int = 120, y: int = 120) -> Image:
    return picture[y : y + 480, x : x + 640]


def lit(picture: Image, gain: float, offset: float = 0.0) -> Image:
    return np.clip(picture * gain + offset, 0, 255).astype(np.uint8)


def cuts_in(pictures: Sequence[Image]) -> list[int]:
    detector = CutDetector()
    return [i for i, picture in enumerate(pictures) if detector.update(picture)]


A, B = view(scene(1)), view(scene(2))
BLACK = np.zeros_like(A)


@pytest.mark.parametrize("seed", range(3, 9))
def test_a_cut_is_seen_in_its_first_frame(seed: int) -> None:
    assert cuts_in([A] * 3 + [view(scene(seed))] * 3 + [A] * 3) == [3, 6]


def test_a_cut_over_black_is_seen_when_the_picture_is_back() -> None:
    assert cuts_in([A] * 3 + [BLACK] * 10 + [B] * 3) == [13]


@pytest.mark.parametrize(
    "between",
    [
        [BLACK] * 10,
        [BLACK + 16] * 10,
        [np.full_like(A, 255)] * 3,
        [lit(A, 1.0, 120), lit(A, 1.0, 60)],
        [lit(A, 2.0, 40)],
        [lit(A, 3.0, 80), lit(A, 1.5)],
        [lit(A, g) for g in (0.8, 0.6, 0.4, 0.2, 0.1, 0.0, 0.1, 0.2, 0.4, 0.6, 0.8)],
        [lit(A, 0.45)] * 5,
    ],
    ids=["black", "nearly black", "white", "flash", "bright flash", "dazzling", "fade", "lights"],
)
def test_what_lies_between_the_same_pictures_is_no_cut(between: list[Image]) -> None:
    assert cuts_in([A] * 4 + between + [A] * 4) == []


def test_shaking_panning_and_low_frame_rates_are_no_cut() -> None:
    picture = scene(1)
    random = np.random.default_rng(0)
    shaken = [view(picture, *random.integers(60, 180, 2).tolist()) for _ in range(20)]
    assert cuts_in(shaken) == []
    assert cuts_in([view(picture, x) for x in range(0, 260, 64)]) == []


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (17, 4000), (1080, 1920)])
def test_pictures_of_any_size(size: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
    assert cuts_in([picture, picture]) == []


def test_after_the_end_of_all_tracks_identities_go_on() -> None:
    tracks = Tracks(COCO17)
    here = [(100.0, 100.0), (300.0, 100.0)]
    assert tracks.update(frame(0, 0.0, here)).ids.tolist() == [1, 2]
    tracks.end_all()
    assert len(tracks) == 0
    assert tracks.update(frame(1, 0.04, here)).ids.tolist() == [3, 4]


def test_after_a_cut_the_detector_looks_at_once() -> None:
    looked: list[int] = []

    def detector(image: Image) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        looked.append(int(image[0, 0, 0]))
        return np.zeros((0, 4), np.float32), np.zeros(0, np.float32)

    proposer = BoxProposer(detector, Tracks(COCO17), every=100)
    for index in range(4):
        if index == 2:
            proposer.begin_anew()
        proposer.propose(Frame(index, index / 30, np.full((90, 90, 3), index, np.uint8)))
    assert looked == [0, 2]


def test_a_late_detection_from_before_a_cut_is_thrown_away() -> None:
    def detector(image: Image) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        where = 10.0 if image[0, 0, 0] == 0 else 40.0
        return np.array([[where, 10, where + 20, 60]], np.float32), np.ones(1, np.float32)

    class Waiting:
        """Runs what it is given when it is asked for it."""

        def submit(self, work: Callable[..., Any], /, *args: Any) -> Any:
            return SimpleNamespace(
                result=lambda: work(*args), done=lambda: True, cancel=lambda: True
            )

        def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None: ...

    tracks = Tracks(COCO17)
    proposer = BoxProposer(detector, tracks, every=100, background=True, executor=Waiting())
    proposer.schedule = SimpleNamespace(  # type: ignore[assignment]  # detects beside the loop
        beside=True, due=lambda *_: True, observe=lambda *_: None, begin=lambda *_: None,
        detected=lambda *_: None, begin_anew=lambda: None,
    )  # fmt: skip
    found: list[list[float]] = []
    for index in range(3):
        image = np.full((90, 90, 3), index, np.uint8)
        if index == 1:
            proposer.begin_anew()
        found.append(proposer.propose(Frame(index, index / 30, image)).boxes[:, 0].tolist())
        tracks.update(Poses.empty(index, index / 30, len(COCO17)))
    assert found == [[], [], [40.0]]


@pytest.mark.parametrize("cuts", ["auto", "off"])
def test_the_person_after_a_cut_is_another_one(cuts: str) -> None:
    plain = canvas(140)
    other = np.ascontiguousarray(view(scene(5))[:360])
    other[:, 140:447] = cv2.resize(portrait(), (307, 360), interpolation=cv2.INTER_AREA)
    with Tracker(cuts=cuts, threads=2) as tracker:  # type: ignore[arg-type]  # one of two
        pipeline = tracker.pipeline()
        shown = [plain] * 4 + [other] * 4
        found = [pipeline.step(Frame(i, i / 25, image)) for i, image in enumerate(shown)]
    ids = [set(poses.ids.tolist()) for poses in found]
    assert all(1 in here for here in ids[:4])
    if cuts == "off":
        assert 1 in ids[-1]
    else:  # from the first frame on, and with numbers that nobody had before
        assert ids[4]
        assert not set.union(*ids[:4]) & set.union(*ids[4:])


CLIPS = ("crossing.mp4", "exercise.avi", "street.avi", "short.mp4")
CUT_IN_CROSSING = 64
"""Here the ride of crossing.mp4 goes on at another place."""


@pytest.fixture(scope="module")
def clips(shared: Path) -> dict[str, list[Image]]:
    found = {}
    for name in CLIPS:
        with open_source(str(shared / "clips" / name)) as source:
            images = [one.image for one in itertools.islice(source, 120)]
        found[name] = [cv2.resize(one, (640, 360), interpolation=cv2.INTER_AREA) for one in images]
    return found


@pytest.mark.shared
@pytest.mark.parametrize("stride", [1, 2, 3, 4])
def test_clips_have_no_cut_but_the_one_that_is_there(
    clips: dict[str, list[Image]], stride: int
) -> None:
    for name, images in clips.items():
        found = cuts_in(images[::stride])
        first = -(-CUT_IN_CROSSING // stride)
        assert found == ([first] if name == "crossing.mp4" else []), name


@pytest.mark.shared
@pytest.mark.parametrize(("first", "second"), list(itertools.permutations(CLIPS, 2)))
def test_joins_of_clips_are_cuts(clips: dict[str, list[Image]], first: str, second: str) -> None:
    for before, after in itertools.product((0.0, 0.3, 0.5), repeat=2):
        one = clips[first][int(before * len(clips[first])) :][:3]
        two = clips[second][int(after * len(clips[second])) :][:3]
        assert cuts_in(one + two) == [len(one)]
        assert cuts_in([*one, *[np.zeros_like(one[0])] * 10, *two]) == [len(one) + 10]
