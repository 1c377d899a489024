"""Frames of a program's own: loops, cameras side by side, colours, kinds of pictures."""

from __future__ import annotations

import gc
import io
import itertools
import os
import pickle
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image as pillow

from hrtrack import HrtrackError, Poses, Tracker
from hrtrack.errors import SourceError, UsageError
from hrtrack.skeleton import COCO17
from hrtrack.tracker.video.frame import Frame

from ..clips import canvas, moving_portrait, portrait
from .test_many_joints import random_model

FRAMES = 8


@pytest.fixture(scope="module")
def tracker() -> Iterator[Tracker]:
    with Tracker() as tracker:
        yield tracker


@pytest.fixture(scope="module")
def bgr_tracker() -> Iterator[Tracker]:
    with Tracker(color="bgr") as tracker:
        yield tracker


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("clips")
    rates = (25, 10, 30, 50)
    return [moving_portrait(folder / f"{rate}.mp4", frames=FRAMES, fps=rate) for rate in rates]


@pytest.fixture(scope="module")
def alone(tracker: Tracker, clips: list[Path]) -> list[list[tuple[Frame, Poses]]]:
    return [list(tracker.track(clip)) for clip in clips]


def assert_same(found: Poses, expected: Poses, *, timed: bool = True) -> None:
    if timed:
        assert (found.frame, found.time) == (expected.frame, expected.time)
    assert len(expected)
    assert found.skeleton == expected.skeleton == COCO17
    for name in ("ids", "boxes", "person_scores", "keypoints", "scores"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def test_update_frame_by_frame_is_the_file(
    tracker: Tracker, alone: list[list[tuple[Frame, Poses]]]
) -> None:
    for clip in alone[:2]:
        tracker.reset()
        for frame, expected in clip:
            assert_same(tracker.update(frame.image, frame.time), expected)


def test_four_streams_in_turns_are_four_alone(
    tracker: Tracker, alone: list[list[tuple[Frame, Poses]]]
) -> None:
    streams = [tracker.new_stream() for _ in alone]
    for step in range(FRAMES):
        for stream, clip in zip(streams, alone, strict=True):
            frame, expected = clip[step]
            assert_same(stream.update(frame.image, frame.time), expected)
    streams[0].reset()
    frame, expected = alone[1][0]
    assert_same(streams[0].update(frame.image, frame.time), expected)


def test_four_streams_in_threads_are_four_alone(
    tracker: Tracker, alone: list[list[tuple[Frame, Poses]]]
) -> None:
    def follow(clip: list[tuple[Frame, Poses]]) -> list[Poses]:
        stream = tracker.new_stream()
        return [stream.update(frame.image, frame.time) for frame, _ in clip]

    with ThreadPoolExecutor(4) as pool:
        for found, clip in zip(pool.map(follow, alone), alone, strict=True):
            for one, (_, expected) in zip(found, clip, strict=True):
                assert_same(one, expected)


def test_a_buffer_may_be_used_again(
    tracker: Tracker, alone: list[list[tuple[Frame, Poses]]]
) -> None:
    stream = tracker.new_stream()
    buffer = np.empty_like(alone[0][0][0].image)
    for frame, expected in alone[0]:
        buffer[:] = frame.image
        assert_same(stream.update(buffer, frame.time), expected)
        buffer[:] = 0


def test_track_takes_pictures_with_and_without_times(
    tracker: Tracker, alone: list[list[tuple[Frame, Poses]]]
) -> None:
    clip = alone[0]
    timed = tracker.track((frame.time, frame.image) for frame, _ in clip)
    at_rate = tracker.track([frame.image for frame, _ in clip], sequence=25)
    stacked = tracker.track(np.stack([frame.image for frame, _ in clip]), sequence=25)
    for own in (timed, at_rate, stacked):
        for (frame, poses), (given, expected) in zip(own, clip, strict=True):
            assert_same(poses, expected)
            assert frame.index == given.index
            assert np.array_equal(frame.image, given.image)
    found = [poses.time for _, poses in tracker.track(iter([portrait(), portrait()]))]
    assert 0 < found[0] < found[1]


@pytest.mark.parametrize("color", ["rgb", "bgr"])
def test_an_opencv_capture_is_bgr_whatever_the_colour(
    tracker: Tracker, bgr_tracker: Tracker, clips: list[Path], color: str
) -> None:
    used = tracker if color == "rgb" else bgr_tracker
    pictures = []
    reader = cv2.VideoCapture(str(clips[1]))
    while (read := reader.read())[0]:
        pictures.append(read[1])
    times = [index / 10 for index in range(FRAMES)]
    expected = list(tracker.track(list(zip(times, [p[..., ::-1] for p in pictures], strict=True))))
    capture = cv2.VideoCapture(str(clips[1]))
    found = list(used.track(capture))
    assert len(found) == FRAMES
    for (frame, poses), (_, wanted), picture in zip(found, expected, pictures, strict=True):
        assert poses.time == pytest.approx(wanted.time)
        assert poses.ids.tolist() == wanted.ids.tolist()
        np.testing.assert_allclose(poses.keypoints, wanted.keypoints, atol=1e-3)
        assert np.array_equal(frame.image, picture[..., ::-1] if color == "rgb" else picture)
    assert capture.isOpened()
    with pytest.raises(SourceError, match="is not open"):
        next(used.track(cv2.VideoCapture()))


def test_bgr_is_for_everything_taken_and_given(
    tracker: Tracker, bgr_tracker: Tracker, clips: list[Path]
) -> None:
    rgb = canvas(60)
    bgr = np.ascontiguousarray(rgb[..., ::-1])
    expected = tracker.image(rgb)
    assert_same(bgr_tracker.image(bgr), expected)
    assert_same(bgr_tracker.update(bgr, 0.0), expected)
    assert_same(next(bgr_tracker.track([(0.0, bgr)]))[1], expected)
    drawn = bgr_tracker.draw(bgr, expected)
    assert np.array_equal(drawn[..., ::-1], tracker.draw(rgb, expected))
    ours, theirs = next(bgr_tracker.track(clips[0])), next(tracker.track(clips[0]))
    assert_same(ours[1], theirs[1])
    assert np.array_equal(ours[0].image[..., ::-1], theirs[0].image)
    with pytest.raises(UsageError, match="color is 'rbg'; choose one of rgb, bgr"):
        Tracker(color="rbg")  # type: ignore[arg-type]


def kinds(folder: Path) -> dict[str, Any]:
    """One picture in every form in which it may come."""
    rgb = canvas(60)
    path = folder / "one.png"
    cv2.imwrite(str(path), rgb[..., ::-1])
    alpha = np.random.default_rng(0).integers(0, 256, rgb.shape[:2], np.uint8)
    transparent = pillow.fromarray(np.dstack([rgb, alpha]))
    packed = io.BytesIO()
    transparent.save(packed, "png")
    return {
        "array": rgb,
        "view of BGR": np.ascontiguousarray(rgb[..., ::-1])[..., ::-1],
        "mirrored twice": rgb[:, ::-1].copy()[:, ::-1],
        "read-only": pickle.loads(pickle.dumps(rgb)),
        "rgba": np.dstack([rgb, alpha]),
        "pil": pillow.fromarray(rgb),
        "pil rgba": transparent,
        "pil file": pillow.open(packed),
        "path": path,
        "name": str(path),
        "bytes": path.read_bytes(),
    }


def test_every_kind_of_picture_gives_the_same(tracker: Tracker, tmp_path: Path) -> None:
    given = kinds(tmp_path)
    expected = tracker.image(given["array"])
    for name, picture in given.items():
        assert_same(tracker.image(picture), expected)
        assert_same(tracker.new_stream().update(picture, 0.0), expected)
        assert np.array_equal(
            tracker.draw(picture, expected), tracker.draw(given["array"], expected)
        ), name


def test_grey_pictures_are_taken(tracker: Tracker, bgr_tracker: Tracker) -> None:
    grey = cv2.cvtColor(canvas(60), cv2.COLOR_RGB2GRAY)
    expected = tracker.image(np.dstack([grey] * 3))
    for picture in (grey, grey[..., None], pillow.fromarray(grey)):
        assert_same(tracker.image(picture), expected)
        assert_same(bgr_tracker.image(picture), expected)
    assert tracker.draw(grey, expected).shape == (*grey.shape, 3)


WRONG: list[tuple[object, str]] = [
    (canvas(0).astype(np.float32), r"found \(360, 640, 3\) float32$"),
    (canvas(0)[..., :2], r"found \(360, 640, 2\) uint8$"),
    (canvas(0)[:0], r"found \(0, 640, 3\) uint8$"),
    (canvas(0)[None], r"found \(1, 360, 640, 3\) uint8$"),
    ([[1, 2]], "found list$"),
    (None, "found NoneType$"),
    ("", "found an empty path$"),
    (b"no picture", "^the picture is damaged or not a picture in any known format$"),
    ("no such.png", "^no such file: no such.png$"),
]


@pytest.mark.parametrize(("picture", "line"), WRONG)
def test_what_is_no_picture_is_refused_in_one_line(
    tracker: Tracker, picture: Any, line: str
) -> None:
    stream = tracker.new_stream()
    for take in (tracker.image, stream.update, lambda one: next(tracker.track([one]))):
        with pytest.raises(HrtrackError, match=line) as error:
            take(picture)
        assert "\n" not in str(error.value)
    # What was refused has not been counted as a frame.
    assert stream.update(canvas(60)).frame == 0


def test_what_is_no_clip_is_refused_in_one_line(tracker: Tracker) -> None:
    wrong: Any
    for wrong, line in (
        (canvas(0), r"track\(\) takes a clip, found one array \(360, 640, 3\)"),
        (None, "found NoneType"),
        (pillow.fromarray(canvas(0)), "found Image"),
    ):
        with pytest.raises(UsageError, match=line):
            next(tracker.track(wrong))
    with pytest.raises(UsageError, match="are for sources that track"):
        next(tracker.track([canvas(0)], stride=2))
    assert list(tracker.track([])) == []


def test_times_are_numbers_that_never_go_back(tracker: Tracker) -> None:
    stream = tracker.new_stream()
    image = canvas(60)
    assert stream.update(image, 5).time == 5.0
    assert stream.update(image, np.float32(5.5)).time == 5.5
    wrong: Any
    for wrong, line in (
        (float("nan"), "time is nan"),
        (float("inf"), "time is inf"),
        ("6", "time is '6'; it must be a number of seconds"),
        (True, "time is True"),
        (5.4, r"time goes back from 5.5 s to 5.4 s; .* call reset\(\)"),
    ):
        with pytest.raises(UsageError, match=line):
            stream.update(image, wrong)
    assert stream.update(image, 5.5).frame == 2
    stream.reset()
    assert stream.update(image, 1.0).frame == 0
    free = tracker.new_stream()
    times = [free.update(image).time for _ in range(3)]
    assert times == sorted(set(times))


def test_a_stream_has_identities_of_its_own_and_reset_begins_anew(tracker: Tracker) -> None:
    one, other = tracker.new_stream(), tracker.new_stream()
    blank = np.full((360, 640, 3), 90, np.uint8)
    for time in itertools.takewhile(lambda time: time < 0.4, itertools.count(0, 0.04)):
        assert one.update(canvas(60), time).ids[0] == 1
        assert other.update(blank, time).ids.tolist() == []
    later = [other.update(canvas(200), 9 + 0.04 * step).ids.tolist() for step in range(10)]
    assert later[-1][0] == 1
    one.reset()
    assert one.update(canvas(300), 0.0).ids[0] == 1


def test_after_closing_one_line_says_so() -> None:
    tracker = Tracker()
    stream = tracker.new_stream()
    stream.update(canvas(60))
    tracker.close()
    for use in (
        lambda: tracker.update(canvas(60)),
        tracker.reset,
        tracker.new_stream,
        lambda: stream.update(canvas(60)),
        stream.reset,
        lambda: next(tracker.track([canvas(60)])),
    ):
        with pytest.raises(UsageError, match=r"^this Tracker is closed: open another one$"):
            use()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_after_a_fork_one_line_says_so(tracker: Tracker) -> None:
    stream = tracker.new_stream()
    stream.update(canvas(60))
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        lines = []
        for use in (lambda: stream.update(canvas(60)), stream.reset, tracker.reset,
                    tracker.new_stream, lambda: tracker.update(canvas(60))):  # fmt: skip
            try:
                use()
                lines.append("nothing")
            except UsageError as error:
                lines.append(str(error))
        os.write(write, "\n".join(lines).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(write)
    with os.fdopen(read) as file:
        lines = file.read().splitlines()
    assert len(lines) == 5
    assert all(line.startswith("this Tracker was opened before a fork") for line in lines)


def test_a_tracker_is_freed_without_a_collection() -> None:
    gc.collect()
    gc.disable()
    try:
        tracker = Tracker()
        tracker.update(canvas(60))
        there = weakref.ref(tracker)
        del tracker
        assert there() is None
    finally:
        gc.enable()


def test_people_know_the_names_of_their_joints(tracker: Tracker) -> None:
    poses = tracker.image(canvas(60))
    person, *_ = poses
    assert person.id == 1
    wrist = COCO17.index("left_wrist")
    assert person["left_wrist"] == (*poses.keypoints[0, wrist].tolist(), poses.scores[0, wrist])
    assert person["nose"].score == person[0].score == poses.scores[0, 0]
    assert person.box.tolist() == poses.boxes[0].tolist()
    nobody = tracker.image(np.zeros((90, 160, 3), np.uint8))
    assert list(nobody) == []
    assert nobody.skeleton == COCO17


def test_the_whole_picture_as_one_person(clips: list[Path]) -> None:
    """A portrait that fills its picture is found without a detector, and keeps its identity."""
    pictures = [portrait()[:, shift : shift + 400] for shift in (40, 44, 48)]
    with Tracker(detector="whole") as whole, Tracker() as usual:
        found = list(whole.track(pictures, sequence=25))
        expected = usual.image(pictures[0])
    assert [poses.ids.tolist() for _, poses in found] == [[1]] * 3
    for joint in ("nose", "left_shoulder", "right_shoulder"):
        ours, theirs = (next(iter(poses))[joint] for poses in (found[0][1], expected))
        assert abs(ours.x - theirs.x) + abs(ours.y - theirs.y) < 20


def test_a_hand_network_on_boxes_of_people_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = random_model(tmp_path / "hand.onnx", 21)
    Tracker(model, detector="whole").close()
    assert not caplog.records
    with Tracker(model) as tracker:
        assert tracker.skeleton.name == "onehand21"
    (said,) = caplog.messages
    assert "for hands, but person_fast finds people; give --detector rtmdet_nano" in said
