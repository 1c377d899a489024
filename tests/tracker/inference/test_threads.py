"""One tracker in many threads, after a fork, after it was closed, and in asyncio."""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from hrtrack.errors import UsageError
from hrtrack.models.runtimes.openvino import CALLERS
from hrtrack.poses import Poses
from hrtrack.tracker.api import Tracker
from hrtrack.tracker.inference.gate import Gate
from hrtrack.tracker.stopwatch import Stopwatch
from tests.clips import canvas, moving_portrait, portrait

Image = NDArray[np.uint8]
WORKERS = 8


@pytest.fixture(scope="module")
def tracker() -> Iterator[Tracker]:
    with Tracker() as tracker:
        yield tracker


def pictures() -> list[Image]:
    """Nobody, one, two and five people, in pictures of several shapes."""
    person = cv2.resize(portrait(), (256, 300), interpolation=cv2.INTER_AREA)
    upright = np.ascontiguousarray(np.pad(person, ((200, 100), (20, 20), (0, 0)), mode="edge"))
    row = np.concatenate([person] * 5, axis=1)
    pair = np.concatenate([canvas(0)[:, :310], canvas(0)[:, :310][:, ::-1]], axis=1)
    return [np.full((240, 320, 3), 90, np.uint8), portrait(), upright, row, pair, canvas(100)]


def assert_same(found: Poses, expected: Poses) -> None:
    assert found.ids.tolist() == expected.ids.tolist()
    np.testing.assert_array_equal(found.boxes, expected.boxes)
    np.testing.assert_array_equal(found.keypoints, expected.keypoints)
    np.testing.assert_array_equal(found.scores, expected.scores)


def estimate_in_threads(tracker: Tracker, calls: int, seconds: float | None = None) -> int:
    """Has every worker look at all pictures in an order of its own; returns the calls made."""
    images = pictures()
    expected = [tracker.image(image) for image in images]
    assert len(expected[0]) == 0
    assert len(expected[3]) >= 4
    together = threading.Barrier(WORKERS)
    until = None if seconds is None else time.monotonic() + seconds

    def work(worker: int) -> int:
        order = np.random.default_rng(worker).integers(len(images), size=calls)
        together.wait()
        done = 0
        for index in order if until is None else itertools.cycle(order):
            assert_same(tracker.image(images[index]), expected[index])
            done += 1
            if until is not None and time.monotonic() > until:
                break
        return done

    with ThreadPoolExecutor(WORKERS) as pool:
        return sum(pool.map(work, range(WORKERS)))


def test_eight_threads_have_the_results_of_one(tracker: Tracker) -> None:
    assert estimate_in_threads(tracker, calls=4) == 4 * WORKERS


@pytest.mark.alone
@pytest.mark.slow
def test_eight_threads_for_a_while() -> None:
    with Tracker(action="action_penn") as tracker:
        assert estimate_in_threads(tracker, calls=100, seconds=20) > WORKERS


def test_a_fresh_tracker_compiles_once_for_all_threads(tmp_path: Path) -> None:
    clip = moving_portrait(tmp_path / "clip.mp4", frames=6)
    with Tracker() as tracker, Tracker() as other:
        expected = [poses for _, poses in other.track(clip)]
        with ThreadPoolExecutor(4) as pool:
            runs = list(pool.map(lambda _: [p for _, p in tracker.track(clip)], range(4)))
        for run in runs:
            for found, wanted in zip(run, expected, strict=True):
                assert_same(found, wanted)


def test_two_streams_in_turns_do_not_mix(tracker: Tracker, tmp_path: Path) -> None:
    first = moving_portrait(tmp_path / "a.mp4", frames=8)
    second = moving_portrait(tmp_path / "b.mp4", frames=8, fps=10)
    alone = [[poses for _, poses in tracker.track(clip)] for clip in (first, second)]
    pairs = list(zip(tracker.track(first), tracker.track(second), strict=True))
    assert len(pairs) == 8
    for index, (one, two) in enumerate(pairs):
        assert_same(one[1], alone[0][index])
        assert_same(two[1], alone[1][index])


def test_only_a_file_under_way_leaves_cores_to_others(tracker: Tracker, tmp_path: Path) -> None:
    clip = moving_portrait(tmp_path / "clip.mp4", frames=6)

    def others() -> bool:
        with CALLERS.enter() as there:
            return there

    for _ in tracker.track(clip):
        assert others()
    assert not others()
    begun = tracker.track(clip)
    next(begun)
    assert others()
    begun.close()
    assert not others()
    tracker.update(canvas(0))
    assert not others()


def test_an_event_loop_is_left_free(tracker: Tracker) -> None:
    async def gather() -> Sequence[Poses]:
        return await asyncio.gather(
            *(asyncio.to_thread(tracker.image, canvas(40 * i)) for i in range(4))
        )

    for i, poses in enumerate(asyncio.run(gather())):
        assert_same(poses, tracker.image(canvas(40 * i)))


def test_after_closing_one_line_says_so(tmp_path: Path) -> None:
    clip = moving_portrait(tmp_path / "clip.mp4", frames=4)
    tracker = Tracker()
    begun = tracker.track(clip)
    next(begun)
    tracker.close()
    tracker.close()
    for use in (
        lambda: tracker.image(portrait()),
        lambda: next(tracker.track(clip)),
        lambda: next(begun),
        tracker.pipeline,
    ):
        with pytest.raises(UsageError, match=r"^this Tracker is closed: open another one$"):
            use()


def test_closing_while_threads_work_loses_no_frame() -> None:
    tracker = Tracker()
    image = pictures()[3]
    expected = tracker.image(image)
    begun = threading.Barrier(5)

    def work(_: int) -> int:
        begun.wait()
        for count in itertools.count():
            try:
                found = tracker.image(image)
            except UsageError:
                return count
            assert_same(found, expected)
        raise AssertionError

    with ThreadPoolExecutor(4) as pool:
        counts = pool.map(work, range(4))
        begun.wait()
        time.sleep(0.2)
        tracker.close()
        assert all(count >= 0 for count in counts)


def test_who_closes_what_it_is_using_does_not_wait_for_itself() -> None:
    freed: list[bool] = []
    gate = Gate(lambda: freed.append(True))
    with gate:
        gate.close()  # as a signal handler would
        assert not freed
        with pytest.raises(UsageError):
            gate.check()
    assert freed == [True]


def test_closing_waits_for_others() -> None:
    order: list[str] = []
    gate = Gate(lambda: order.append("freed"))
    inside, go_on = threading.Event(), threading.Event()

    def work() -> None:
        with gate:
            inside.set()
            go_on.wait()
            order.append("left")

    worker = threading.Thread(target=work)
    worker.start()
    inside.wait()
    threading.Timer(0.05, go_on.set).start()
    gate.close()
    worker.join()
    assert order == ["left", "freed"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_after_a_fork_one_line_says_what_to_do() -> None:
    script = """
        import os, sys, threading
        from hrtrack.tracker.api import Tracker
        from tests.clips import portrait

        tracker = Tracker()
        stop = threading.Event()
        def work():
            while not stop.is_set():
                tracker.image(portrait())
        busy = threading.Thread(target=work)
        busy.start()
        for again in (False, True):
            if again:
                # What OpenVINO was doing in the middle of a fork is no matter of ours.
                stop.set()
                busy.join()
            child = os.fork()
            if child == 0:
                if again:
                    with Tracker() as own:
                        print(len(own.image(portrait())), "in a tracker of its own", flush=True)
                else:
                    for use in (lambda: tracker.image(portrait()), tracker.pipeline):
                        try:
                            use()
                        except Exception as error:
                            print(f"{type(error).__name__}: {error}", flush=True)
                tracker.close()
                sys.exit(5)  # with everything that an interpreter does at its end
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        print(len(tracker.image(portrait())), "in the parent")
        tracker.close()
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=120)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    line = (
        "UsageError: this Tracker was opened before a fork and works only in the process that "
        "opened it: open a Tracker in each process, best with multiprocessing's start method "
        "'spawn'"
    )
    expected = [line, line, "5", "1 in a tracker of its own", "5", "1 in the parent"]
    assert out.splitlines() == expected, err


def people_of(image: Image) -> int:
    with Tracker(threads=1) as tracker:
        return len(tracker.image(image))


def test_each_spawned_process_has_a_tracker_of_its_own() -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(people_of, [portrait()]) == [1]


def test_a_stopwatch_counts_what_all_threads_enter() -> None:
    watch = Stopwatch()

    def work(_: int) -> None:
        for _ in range(500):
            watch.add("stage", 0.5)
            watch.percentile("stage", 50)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert watch.counts["stage"] == 2000
    assert watch.total["stage"] == 1000.0
