"""Many streams at a time under a stopwatch: in one process, and each in a process of its own."""

from __future__ import annotations

import logging
import math
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from multiprocessing.connection import Connection, wait
from typing import Any

import numpy as np

from ..errors import BackendError, HrtrackError
from ..interrupt import SIGNALS
from ..pyav import av
from .api import Tracker
from .options import TrackerOptions
from .video.base import LiveOptions, Source
from .video.live import LiveSource
from .video.open import open_source

WARM_UP = 0.5
"""Seconds that cameras run before a turn counts: they open, and the detector's pace settles."""
REHEARSAL = 1.0
"""Seconds of a turn that does not count at all: networks are compiled for their shares."""
OWN, SHARED = "processes", "one process"
ROUND = (SHARED, OWN, OWN, SHARED)
"""Who runs when: what makes the machine faster or slower for a while weighs on both alike."""
ROUNDS = 2
FINE = 0.4
"""Seconds of a turn with files at most. Files are only held between two turns, not closed, so that
turns can be shorter than most of what a shared machine does beside."""


@dataclass(frozen=True)
class StreamTimes:
    """How one way of running several streams did: medians of its turns.

    Files are read as fast as they are processed, cameras send at the clip's own rate and lose the
    frames that nobody takes in time. Rates are frames a second: of all streams together, and of
    the stream that got the fewest. Ages are milliseconds from a frame's arrival to its poses.
    ``cpu_ms`` is the processor time of all threads for a frame of a file.
    """

    files_fps: float
    files_fewest_fps: float
    cpu_ms: float
    cameras_fps: float
    cameras_fewest_fps: float
    age_p50_ms: float
    age_p95_ms: float
    lost: float


@dataclass(frozen=True)
class Ratio:
    """One process's figure divided by that of many: median and quartiles of all rounds.

    Both halves of a round meet much the same machine, so that this tells more than the ratio of
    two medians where other work comes and goes.
    """

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class StreamsReport:
    """So many streams in one process, and in as many processes of ``own_threads`` threads each.

    ``fps_ratio`` and ``cpu_ratio`` compare the two ways with files.
    """

    streams: int
    threads: int
    own_threads: int
    one_process: StreamTimes
    processes: StreamTimes
    fps_ratio: Ratio
    cpu_ratio: Ratio

    def to_json(self) -> dict[str, object]:
        """The report as plain data."""
        return asdict(self)


@dataclass
class _Counts:
    """What one turn of one process gave; ``frames`` and ``lost`` of each of its streams."""

    frames: list[int]
    lost: list[int]
    ages: list[float]
    cpu: float
    seconds: float


def bench_streams(
    clip: str, options: TrackerOptions, streams: int, seconds: float
) -> StreamsReport:
    """Runs a clip as so many files and as so many cameras, both ways in turns.

    Both ways have the same number of threads for their networks, divided among the processes, but
    a process has at least one. Every frame has all its work done: nobody is left out to keep a
    rate.

    Args:
        clip: a video file; it begins anew when it ends.
        options: of the tracker.
        streams: how many.
        seconds: how long each of eight turns with cameras counts. With files all turns together
            are as long, but of at most `FINE` seconds each.

    Raises:
        HrtrackError: what keeps the clip from being tracked.
        BackendError: a process died.
    """
    threads = options.threads or os.cpu_count() or 1
    own = max(1, threads // streams)
    options = replace(options, target_fps="off")
    with ExitStack() as stack:
        workers = {
            SHARED: [_Worker(clip, replace(options, threads=threads), streams)],
            OWN: [_Worker(clip, replace(options, threads=own), 1) for _ in range(streams)],
        }
        for every in workers.values():
            for worker in every:
                stack.callback(worker.end)
            _heard(every)
        counts: dict[tuple[str, bool], list[_Counts]] = {}
        for live in (False, True):
            parts = 1 if live else math.ceil(seconds / FINE)
            for way in (SHARED, OWN):
                _turn(workers[way], live, REHEARSAL)
            for way in parts * ROUNDS * ROUND:
                turn = _turn(workers[way], live, seconds / parts)
                counts.setdefault((way, live), []).append(turn)
    shared, apart = (_times(counts[way, False], counts[way, True]) for way in (SHARED, OWN))
    files = counts[SHARED, False], counts[OWN, False]
    return StreamsReport(
        streams, threads, own, shared, apart, _ratio(*files, _rate), _ratio(*files, _cost)
    )


def _turn(workers: Sequence[_Worker], live: bool, seconds: float) -> _Counts:
    """Has all of them run at a time, and adds up what they counted."""
    for worker in workers:
        worker.connection.send((live, seconds))
    found: list[_Counts] = _heard(workers)
    return _Counts(
        [count for one in found for count in one.frames],
        [count for one in found for count in one.lost],
        [age for one in found for age in one.ages],
        sum(one.cpu for one in found),
        max(one.seconds for one in found),
    )


def _times(files: Sequence[_Counts], cameras: Sequence[_Counts]) -> StreamTimes:
    ages = np.array([age for turn in cameras for age in turn.ages]) * 1e3
    taken = sum(sum(turn.frames) for turn in cameras)
    lost = sum(sum(turn.lost) for turn in cameras)
    p50, p95 = np.percentile(ages, (50, 95)) if len(ages) else (np.nan, np.nan)
    return StreamTimes(
        *_rates(files),
        float(np.median([_cost([turn]) for turn in files])) * 1e3,
        *_rates(cameras),
        float(p50),
        float(p95),
        lost / max(1, lost + taken),
    )


def _rates(turns: Sequence[_Counts]) -> tuple[float, float]:
    """Frames a second of all streams, and of the one that got the fewest in all turns."""
    rates = np.array([turn.frames for turn in turns]) / [[turn.seconds] for turn in turns]
    return float(np.median(rates.sum(axis=1))), float(rates.mean(axis=0).min())


def _rate(turns: Sequence[_Counts]) -> float:
    return sum(sum(turn.frames) for turn in turns) / sum(turn.seconds for turn in turns)


def _cost(turns: Sequence[_Counts]) -> float:
    """Seconds of processor time a frame."""
    return sum(turn.cpu for turn in turns) / max(1, sum(sum(turn.frames) for turn in turns))


def _ratio(
    shared: Sequence[_Counts],
    apart: Sequence[_Counts],
    figure: Callable[[Sequence[_Counts]], float],
) -> Ratio:
    two = ROUND.count(SHARED)
    ratios = [
        # Not a number where the machine stood still for a whole round.
        figure(shared[i : i + two]) / (figure(apart[i : i + two]) or math.nan)
        for i in range(0, len(shared), two)
    ]
    low, median, high = np.percentile(ratios, (25, 50, 75)).tolist()
    return Ratio(median, low, high)


class _Worker:
    """A process that runs streams when it is told to."""

    def __init__(self, clip: str, options: TrackerOptions, streams: int) -> None:
        # Forked copies of a process with running threads can hang.
        context = multiprocessing.get_context("spawn")
        self.connection, there = context.Pipe()
        self.process = context.Process(
            target=_work, args=(there, clip, options, streams), daemon=True
        )
        self.process.start()
        there.close()

    def end(self) -> None:
        """Ends the process, whatever it does: it writes nothing."""
        self.connection.close()
        self.process.join(0.1)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def _heard(workers: Sequence[_Worker]) -> list[Any]:
    """What each worker says next.

    Raises:
        HrtrackError: what one of them raised.
        BackendError: one died.
    """
    found: dict[int, Any] = {}
    while len(found) < len(workers):
        waiting = {
            worker.connection: place for place, worker in enumerate(workers) if place not in found
        }
        for ready in wait(list(waiting)):
            place = waiting[ready]  # type: ignore[index]
            try:
                said = workers[place].connection.recv()
            except (EOFError, OSError):
                raise BackendError("a process that ran streams has died") from None
            if isinstance(said, HrtrackError):
                raise said
            found[place] = said
    return [found[place] for place in range(len(workers))]


def _work(connection: Connection, clip: str, options: TrackerOptions, streams: int) -> None:
    """What a worker's process does: it loads the networks and runs turns until nobody asks."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # the parent ends its workers
    # A clip that begins anew as a camera counts as a lost connection.
    logging.getLogger("hrtrack").setLevel(logging.ERROR)
    try:
        with Tracker.of(options) as tracker:
            if streams > 1:
                tracker.share(streams)
            connection.send(None)
            with ExitStack() as opened:
                files = _Streams(tracker, clip, streams, live=False)
                opened.callback(files.end)
                live, seconds = connection.recv()
                while not live:
                    connection.send(files.turn(seconds))
                    live, seconds = connection.recv()
            while True:
                with ExitStack() as opened:
                    cameras = _Streams(tracker, clip, streams, live=True)
                    opened.callback(cameras.end)
                    connection.send(cameras.turn(seconds))
                _, seconds = connection.recv()
    except HrtrackError as error:
        connection.send(error)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass  # the parent has ended


class _Streams:
    """The streams of a process, each in a thread; files are held between two turns."""

    def __init__(self, tracker: Tracker, clip: str, streams: int, *, live: bool) -> None:
        self._live = live
        self._seen = [_Seen() for _ in range(streams)]
        self._door, self._over = _Door(), threading.Event()
        self._threads = [
            threading.Thread(
                target=_stream, args=(tracker, clip, live, one, self._door, self._over), daemon=True
            )
            for one in self._seen
        ]
        for thread in self._threads:
            thread.start()

    def turn(self, seconds: float) -> _Counts:
        """Lets all of them go on for so many seconds, and counts what they do.

        Raises:
            HrtrackError: what kept one of them from going on.
        """
        if self._live:
            self._door.open()
            self._over.wait(WARM_UP)
            while not self._over.is_set() and not all(one.ages for one in self._seen):
                self._over.wait(0.05)  # networks are compiled for the first frame
        else:
            self._door.close(len(self._seen))  # all have come as far as their first frame
        before = [one.now() for one in self._seen]
        start, cpu = time.perf_counter(), time.process_time()
        self._door.open()
        self._over.wait(seconds)
        if not self._live:
            self._door.close(len(self._seen))
        elapsed, cpu = time.perf_counter() - start, time.process_time() - cpu
        after = [one.now() for one in self._seen]
        for one in self._seen:
            if one.error is not None:
                raise one.error
        ages = [
            age
            for one, (first, _), (last, _) in zip(self._seen, before, after, strict=True)
            for age in one.ages[first:last]
        ]
        pairs = list(zip(before, after, strict=True))
        return _Counts(
            [last[0] - first[0] for first, last in pairs],
            [last[1] - first[1] for first, last in pairs],
            ages,
            cpu,
            elapsed,
        )

    def end(self) -> None:
        """Ends all of them."""
        self._over.set()
        self._door.open()
        for thread in self._threads:
            thread.join()


class _Door:
    """Where streams pass between two frames, or wait."""

    def __init__(self) -> None:
        self._open = False
        self._waiting = 0
        self._changed = threading.Condition()

    def open(self) -> None:
        """Lets everybody pass until `close`."""
        with self._changed:
            self._open = True
            self._changed.notify_all()

    def close(self, streams: int) -> None:
        """Returns when so many streams wait or have ended."""
        with self._changed:
            self._open = False
            self._changed.wait_for(lambda: self._waiting >= streams)

    def come(self, *, back: bool = True) -> None:
        """Waits until the door is open; a stream that ends comes for good, and goes on at once."""
        with self._changed:
            self._waiting += 1
            self._changed.notify_all()
            if back:
                self._changed.wait_for(lambda: self._open)
                self._waiting -= 1


class _Seen:
    """What one stream has done so far: the age of each frame, and how many frames were lost."""

    def __init__(self) -> None:
        self.ages: list[float] = []
        self.lost = 0
        self.error: BaseException | None = None

    def now(self) -> tuple[int, int]:
        """Frames done and lost."""
        return len(self.ages), self.lost


def _stream(
    tracker: Tracker, clip: str, live: bool, seen: _Seen, door: _Door, over: threading.Event
) -> None:
    open_one: Callable[[], Source] = _camera(clip) if live else lambda: open_source(clip)
    try:
        while not over.is_set():
            with open_one() as source:
                rate = float(source.fps) if source.fps else None
                pipeline = tracker.pipeline(live=live, rate=rate, waits=live)
                try:
                    for frame in source:
                        door.come()
                        if over.is_set():
                            break
                        pipeline.step(frame)
                        arrived = frame.arrived
                        seen.lost = frame.dropped
                        seen.ages.append(0.0 if arrived is None else time.monotonic() - arrived)
                finally:
                    pipeline.close()
    except BaseException as error:
        seen.error = error
        over.set()
    finally:
        door.come(back=False)


def _camera(clip: str) -> Callable[[], Source]:
    """Opens a clip as a camera that sends it at its own rate, over and over."""

    def open_one() -> Source:
        return LiveSource(
            clip,
            "live",
            opener=lambda: av.open(clip, metadata_errors="replace"),
            options=LiveOptions(reconnect="forever", first_delay=0.0),
            paced=True,
        )

    return open_one
